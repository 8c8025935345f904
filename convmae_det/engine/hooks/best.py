"""Keeps the weights with the best metric so far, and ends training when they stay the best for long."""

import logging
import os

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from torch import nn

from ...checkpoint.reading import read_checkpoint
from ...checkpoint.writing import describe_model, write_checkpoint
from .evaluation import is_due_at_start

logger = logging.getLogger(__name__)


class BestCheckpoint(hooks.BestCheckpointer):
    """Detectron2's hook, except that its file contains weights alone and the metric that they were chosen for.

    A resumed run reads the best metric from the file, and doesn't resume from it. The hook goes after the evaluation,
    on the main process.
    """

    def __init__(self, period: int, metric: str, model: nn.Module, path: str):
        """Takes what to save and when.

        Args:
            period: iterations between evaluations
            metric: its name in metrics.json
            model: whose weights are written
            path: of the file
        """
        super().__init__(period, self, metric, file_prefix=path)
        self.metric, self.model, self.path = metric, model, path

    def before_train(self) -> None:
        """Reads the best metric from the file, not from the checkpoint that is resumed."""
        if self.trainer.start_iter > 0 and os.path.exists(self.path):
            best = read_checkpoint(self.path).get("best", {})
            if best.get("metric") == self.metric:
                self.best_metric, self.best_iter = best["value"], best["iterations"] - 1
        if is_due_at_start(self.trainer, self._period):
            self._best_checking()

    def save(self, path: str, iteration: int) -> None:
        """Writes the file; the base class calls it as a checkpointer's method, before it stores the new best value."""
        value, _ = self.trainer.storage.latest()[self.metric]
        best = {"metric": self.metric, "value": value, "iterations": min(iteration + 1, self.trainer.max_iter)}
        write_checkpoint(describe_model(self.model) | {"best": best}, path, recorded=True)
        logger.info(f"{self.metric} {value:.2f} is the best so far: {path}")


class TrainingStopped(BaseException):
    """Ends training early; the message says why. It is no Exception, so that Detectron2 doesn't log it as a failure."""


class EarlyStoppingHook(HookBase):
    """Ends training once `patience` evaluations in a row have not been better than the best.

    All processes end after the same iteration. The number of evaluations since the best follows from its iteration, so
    that a resumed run knows it.
    """

    def __init__(self, patience: int, period: int, best: BestCheckpoint | None):
        """Takes the limit.

        Args:
            patience: evaluations
            period: iterations between evaluations
            best: None on all processes but the main one
        """
        self.patience, self.period, self.best = patience, period, best

    def before_train(self) -> None:
        if is_due_at_start(self.trainer, self.period):
            self._check()

    def after_step(self) -> None:
        iterations = self.trainer.iter + 1
        if iterations % self.period == 0 and iterations < self.trainer.max_iter:
            self._check()

    def _check(self) -> None:
        if reason := self._find_reason(self.trainer.iter + 1):
            if comm.is_main_process():
                self.trainer.save_final()
            comm.synchronize()  # when one process ends, a launcher ends the others
            raise TrainingStopped(f"{reason}: the run is complete")

    def _find_reason(self, iterations: int) -> str | None:
        """Returns why to stop after this many iterations, the same on all processes; None: continue."""
        reason, best = None, self.best
        if best and best.best_iter is not None:
            since = iterations // self.period - (best.best_iter + 1) // self.period
            if since >= self.patience:
                reason = (
                    f"{since} evaluations up to iteration {iterations} of {self.trainer.max_iter} were not better than "
                    f"{best.metric} {best.best_metric:.2f} after {best.best_iter + 1} iterations, {best.path} "
                    f"(TEST.PATIENCE {self.patience})"
                )
        return comm.all_gather(reason)[0]
