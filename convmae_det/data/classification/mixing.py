"""From samples to a batch, in which each two neighbours are mixed: mixup and cutmix (arXiv 1710.09412, 1905.04899)."""

import numpy as np
import torch
from detectron2.config import CfgNode
from timm.data.mixup import Mixup

from ..pretraining.mapper import stack_images
from ..stream import preserve_random_state


class Mixing:
    """Makes batches, timm's mixup or cutmix between the samples at positions 2k and 2k + 1 of the stream.

    How two are mixed is drawn from the first one's "draw". So which images are mixed, and how, depends on their
    positions alone, not on how a step is cut into batches, as long as none has an odd number.
    """

    def __init__(self, mixup: Mixup | None):
        """Takes timm's function of two images; None: nothing is mixed."""
        self.mixup = mixup

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Mixing":
        node = cfg.INPUT.CLASSIFICATION
        if not (node.MIXUP or node.CUTMIX):
            return cls(None)
        return cls(Mixup(node.MIXUP, node.CUTMIX, label_smoothing=0, num_classes=cfg.MODEL.CLASSIFIER.NUM_CLASSES))

    def __call__(self, samples: list[dict]) -> dict:
        """Stacks samples of `TrainingMapper` or `EvaluationMapper`.

        Returns:
            What `stack_images` does, and "labels", (N,) int64, or where images are mixed, "targets", (N, classes)
            float32 that sum to 1
        """
        batch, labels = stack_images(samples), torch.tensor([sample["label"] for sample in samples])
        if not self.mixup:
            return batch | {"labels": labels}
        images, targets = batch["images"].float(), []
        with preserve_random_state():
            for start in range(0, len(samples), 2):
                pair = slice(start, start + 2)
                np.random.seed(samples[start]["draw"])
                images[pair], mixed = self.mixup(images[pair], labels[pair])
                targets.append(mixed)
        return batch | {"images": images, "targets": torch.cat(targets)}
