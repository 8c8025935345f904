"""Records with what, where and how long a run is trained."""

import contextlib
import logging
import time
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.engine import HookBase

from ...errors import InputError
from ...report.run_record import begin_session, read_sessions, write_sessions

logger = logging.getLogger(__name__)


class RunRecordHook(HookBase):
    """Adds a session to OUTPUT_DIR/run.json when training begins, and its length when it ends, however it ends.

    A run that is resumed with other images than before is warned: it won't end as it would have.
    """

    def __init__(self, cfg: CfgNode, images: Sequence[dict]):
        """Takes the run.

        Args:
            cfg: of the run
            images: of an epoch, with their "file_name"
        """
        self.cfg, self.images = cfg, images

    def before_train(self) -> None:
        self.session = begin_session(self.cfg, self.trainer.start_iter, self.images)
        earlier = read_sessions(self.cfg.OUTPUT_DIR)
        if earlier:
            _compare_images(earlier[-1], self.session)
        self.sessions = [*earlier, self.session]
        self.began = time.perf_counter()
        write_sessions(self.cfg.OUTPUT_DIR, self.sessions)

    def after_train(self) -> None:
        seconds, iterations = time.perf_counter() - self.began, self.trainer.iter - self.trainer.start_iter
        self.session.update(seconds=round(seconds, 1), iterations=iterations)
        with contextlib.suppress(InputError):  # a full disk, which training itself reports
            write_sessions(self.cfg.OUTPUT_DIR, self.sessions)


def _compare_images(before: dict, now: dict) -> None:
    """Warns if the images of two sessions of a run differ; sessions of earlier versions don't tell all of it."""
    if any(before.get(key, now[key]) != now[key] for key in ("images", "names")):
        logger.warning(
            f"DATASETS.TRAIN has other images than the run had until now ({before.get('images')} then, "
            f"{now['images']} now): it goes on with these, and won't end as it would have with the others"
        )
