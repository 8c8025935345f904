"""SIGTERM and SIGINT, as clusters and Ctrl-C send them, end training with a checkpoint."""

import os
import signal
import threading

from detectron2.engine import HookBase
from detectron2.utils import comm

NOTICE = b"\nInterrupted: a checkpoint is written after this iteration. Ctrl-C again ends at once, without it.\n"


class InterruptionHook(HookBase):
    """Ends training in an orderly way at the first SIGTERM or SIGINT that any process receives.

    All finish their iteration, a checkpoint is written and KeyboardInterrupt raised; a second SIGINT raises it at once.
    It goes before the evaluation: a signal doesn't wait for the one that would come next.
    """

    def __init__(self):
        self.received = self.interrupted = False
        self.replaced = {}

    def before_train(self) -> None:
        self.process = os.getpid()
        if threading.current_thread() is threading.main_thread():  # others can't receive any
            for number in (signal.SIGTERM, signal.SIGINT):
                self.replaced[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: object) -> None:
        if os.getpid() != self.process:
            return  # a loader's worker, forked from here: Ctrl-C reaches it too, but it is needed until the end
        first, self.received = not self.received, True
        if number == signal.SIGINT:  # SIGTERM doesn't count: launchers pass Ctrl-C on as one, in the same instant
            again, self.interrupted = self.interrupted, True
            if again:
                raise KeyboardInterrupt
        if first and comm.is_main_process():
            os.write(2, NOTICE)

    def after_step(self) -> None:
        if any(comm.all_gather(self.received)):
            trainer = self.trainer
            if comm.is_main_process() and trainer.iter + 1 < trainer.max_iter:
                trainer.checkpointer.save(f"model_{trainer.iter:07d}", iteration=trainer.iter)
            comm.synchronize()  # a launcher ends the others when one has ended
            raise KeyboardInterrupt

    def after_train(self) -> None:
        for number, handler in self.replaced.items():
            signal.signal(number, handler)
        self.replaced = {}
