"""train_net.py that interrupts itself: python watched_training.py SHAPES_FOLDER SIGNAL ITERATION [its arguments]

In mid-iteration, the last of its processes sends the signal to itself and, as terminals and schedulers do, its workers.
"""

import os
import signal
import sys

from detectron2.engine import HookBase
from detectron2.utils import comm

import train_net
from convmae_det.data.shapes import register_shapes
from convmae_det.engine.launch import parse_arguments, run
from convmae_det.engine.trainer import DetectionTrainer


class Interrupter(HookBase):
    def __init__(self, name: str, iteration: int):
        self.number, self.iteration = signal.Signals[name], iteration

    def before_step(self):
        if self.trainer.iter == self.iteration and comm.get_rank() == comm.get_world_size() - 1:
            os.kill(0, self.number)


class InterruptedTrainer(DetectionTrainer):
    def build_hooks(self):
        return [Interrupter(sys.argv[2], int(sys.argv[3])), *super().build_hooks()]


if __name__ == "__main__":
    register_shapes(sys.argv[1])
    train_net.DetectionTrainer = InterruptedTrainer
    sys.exit(run(train_net.main, parse_arguments(None, sys.argv[4:])))
