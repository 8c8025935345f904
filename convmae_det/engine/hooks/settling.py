"""Reads the outcome of a step at once where the main process alone needs it at once."""

from collections.abc import Iterable

from detectron2.engine import HookBase


class SettlingHook(HookBase):
    """Settles the first step and the last, and those after which the main process logs, saves or draws something.

    In all processes, and before the hooks that do so. Evaluations, in which all take part, settle their steps
    themselves. All others may be read late; see `TrainingStep`.
    """

    def __init__(self, periods: Iterable[int]):
        """`periods`: iterations between such steps, each; 0: never."""
        self.periods = [period for period in periods if period]

    def after_step(self) -> None:
        trainer = self.trainer
        iterations = trainer.iter + 1
        ends = trainer.iter == trainer.start_iter, iterations >= trainer.max_iter
        if any(ends) or any(iterations % period == 0 for period in self.periods):
            trainer._trainer.settle()
