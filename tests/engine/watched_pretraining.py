"""`convmae-det pretrain`, whose trainer notes what it does: python watched_pretraining.py WATCH [its arguments]

OUTPUT_DIR/losses.txt gets the loss of each iteration, gradients0.pt and so on the last gradients of each process. WATCH
is "masks" if the masks shall come with the data, so that they don't depend on the number of processes, or the iteration
after which the process kills itself.
"""

import os
import signal
import sys

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from convmae_det.cli import pretrain
from convmae_det.data.pretraining.mapper import PretrainingMapper, stack_images
from convmae_det.engine import pretraining


class Watch(HookBase):
    def __init__(self, folder: str, kill_after: int | None):
        self.folder, self.kill_after = folder, kill_after

    def after_step(self):
        if comm.is_main_process():
            loss, _ = self.trainer.storage.latest()["total_loss"]
            with open(f"{self.folder}/losses.txt", "a") as file:
                file.write(f"{self.trainer.iter} {float(loss).hex()}\n")
        if self.trainer.iter == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def after_train(self):
        gradients = {name: p.grad for name, p in self.trainer.checkpointer.model.named_parameters()}
        torch.save(gradients, f"{self.folder}/gradients{comm.get_rank()}.pt")


class WatchedTrainer(pretraining.PretrainingTrainer):
    kill_after = None

    def build_hooks(self):
        return [*super().build_hooks(), Watch(self.cfg.OUTPUT_DIR, self.kill_after)]


class MapperWithMasks(PretrainingMapper):
    """Noise is drawn with the sample, for an image of 64×64 pixels."""

    def __call__(self, dataset_dict: dict) -> dict:
        return super().__call__(dataset_dict) | {"noise": torch.rand(16)}


def stack_with_masks(samples: list[dict]) -> dict:
    return stack_images(samples) | {"noise": torch.stack([sample["noise"] for sample in samples])}


if __name__ == "__main__":
    from convmae_det.data.pretraining import loader as data

    pretrain.PretrainingTrainer = WatchedTrainer
    watch, *words = sys.argv[1:]
    if watch == "masks":
        data.PretrainingMapper, data.stack_images = MapperWithMasks, stack_with_masks
    else:
        WatchedTrainer.kill_after = int(watch)
    sys.exit(pretrain.main(words))
