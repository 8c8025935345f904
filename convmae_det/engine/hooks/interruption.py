"""Ends training with a checkpoint at SIGTERM and SIGINT, which clusters and Ctrl-C send."""

import os
import signal
import threading
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

NOTICE = b"\nInterrupted: a checkpoint is written after this iteration. Ctrl-C again ends at once, without it.\n"


class InterruptionHook(HookBase):
    """Ends training at the first SIGTERM or SIGINT that any process receives.

    All processes finish their iteration, a checkpoint is written and KeyboardInterrupt raised; a second SIGINT raises
    it at once. The hook goes before the evaluation, so that a signal doesn't wait for the next one.
    """

    def __init__(self):
        self.interrupted = False
        self.replaced = {}

    def before_train(self) -> None:
        self.process = os.getpid()
        if threading.current_thread() is threading.main_thread():  # only this thread receives signals
            for number in (signal.SIGTERM, signal.SIGINT):
                self.replaced[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: object) -> None:
        if os.getpid() != self.process:
            return  # a worker of the loader, forked from here; it is needed until the end
        step: Any = self.trainer._trainer
        first, step.end_requested = not step.end_requested, True
        if number == signal.SIGINT:  # not SIGTERM, which launchers send together with Ctrl-C
            again, self.interrupted = self.interrupted, True
            if again:
                raise KeyboardInterrupt
        if first and comm.is_main_process():
            os.write(2, NOTICE)

    def after_step(self) -> None:
        trainer: Any = self.trainer
        if trainer._trainer.ends:
            trainer._trainer.settle()
            if comm.is_main_process() and trainer.iter + 1 < trainer.max_iter:
                trainer.checkpointer.save(f"model_{trainer.iter:07d}", iteration=trainer.iter)
            comm.synchronize()  # when one process ends, a launcher ends the others
            raise KeyboardInterrupt

    def after_train(self) -> None:
        for number, handler in self.replaced.items():
            signal.signal(number, handler)
        self.replaced = {}
