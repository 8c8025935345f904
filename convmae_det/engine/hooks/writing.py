"""Hands the numbers and pictures of a run to metrics.json and to what LOGGERS names."""

from collections.abc import Iterable, Sequence

from detectron2.engine import hooks
from detectron2.utils.events import EventWriter, get_event_storage


class WritingHook(hooks.PeriodicWriter):
    """Detectron2's hook, which also writes after each evaluation, however soon the next one follows.

    The event storage gives writers the last value of each number alone.
    """

    def __init__(self, writers: Sequence[EventWriter], periods: Iterable[int]):
        """Takes the writers, and the iterations between writes, each; 0: never."""
        super().__init__(list(writers))
        self.periods = [period for period in periods if period > 0]

    def before_train(self) -> None:
        """Writes the evaluation that a resumed run repeats."""
        self._write()

    def after_step(self) -> None:
        iterations = self.trainer.iter + 1
        if iterations >= self.trainer.max_iter or any(iterations % period == 0 for period in self.periods):
            self._write()

    def _write(self) -> None:
        for writer in self._writers:
            writer.write()
        get_event_storage().clear_images()
