"""Records with what, where and how long a run is trained."""

import contextlib
import time

from detectron2.config import CfgNode
from detectron2.engine import HookBase

from ...errors import InputError
from ...report.run_record import begin_session, read_sessions, write_sessions


class RunRecordHook(HookBase):
    """Adds a session to OUTPUT_DIR/run.json when training begins, and its length when it ends, however it ends."""

    def __init__(self, cfg: CfgNode, images: int):
        """Takes the run.

        Args:
            cfg: of the run
            images: in an epoch
        """
        self.cfg, self.images = cfg, images

    def before_train(self) -> None:
        self.session = begin_session(self.cfg, self.trainer.start_iter, self.images)
        self.sessions = [*read_sessions(self.cfg.OUTPUT_DIR), self.session]
        self.began = time.perf_counter()
        write_sessions(self.cfg.OUTPUT_DIR, self.sessions)

    def after_train(self) -> None:
        seconds, iterations = time.perf_counter() - self.began, self.trainer.iter - self.trainer.start_iter
        self.session.update(seconds=round(seconds, 1), iterations=iterations)
        with contextlib.suppress(InputError):  # a full disk, which training itself reports
            write_sessions(self.cfg.OUTPUT_DIR, self.sessions)
