"""A command that interrupts itself: python watched_training.py COMMAND SHAPES_FOLDER SIGNAL ITERATION [its arguments]

In mid-iteration, the last of its processes sends the signal to itself and, as terminals and schedulers do, its workers.
"""

import os
import signal
import sys

from detectron2.engine import HookBase
from detectron2.utils import comm

from convmae_det.cli import pretrain, train
from convmae_det.data.shapes import register_shapes
from convmae_det.engine.detection import DetectionTrainer


class Interrupter(HookBase):
    def __init__(self, name: str, iteration: int):
        self.number, self.iteration = signal.Signals[name], iteration

    def before_step(self):
        if self.trainer.iter == self.iteration and comm.get_rank() == comm.get_world_size() - 1:
            os.kill(0, self.number)


def interrupted(trainer: type, interrupter: Interrupter) -> type:
    class InterruptedTrainer(trainer):
        def build_hooks(self):
            return [interrupter, *super().build_hooks()]

    return InterruptedTrainer


if __name__ == "__main__":
    script, shapes, name, iteration, *words = sys.argv[1:]
    register_shapes(shapes)
    interrupter = Interrupter(name, int(iteration))
    trainer = interrupted(DetectionTrainer, interrupter)
    train.choose_trainer = lambda cfg: trainer
    pretrain.PretrainingTrainer = interrupted(pretrain.PretrainingTrainer, interrupter)
    sys.exit({"train": train, "pretrain": pretrain}[script].main(words))
