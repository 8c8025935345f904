"""Runs that are cut off, as by kill -9, after an iteration."""

import pytest
from detectron2.engine import HookBase, TrainerBase


class Interrupt(HookBase):
    """Ends training after the iteration, before what the hooks behind it would do."""

    def __init__(self, iteration: int):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise KeyboardInterrupt


def train_until(trainer: TrainerBase, iteration: int | None) -> None:
    """Trains to the end, or to the `iteration` of the trainer's :class:`Interrupt`."""
    if iteration is None:
        trainer.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
