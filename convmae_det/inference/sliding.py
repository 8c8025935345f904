"""A segmentor that takes large images in windows, as it was trained on crops: their logits are averaged."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling.postprocessing import sem_seg_postprocess
from torch import nn

from ..config.checks.segmentation import check_windows_of_images

WINDOWS_AT_ONCE = 4  # that pass the model together


def slide_windows(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Returns the segmentor as TEST.SLIDING_WINDOW says: in windows, or as it is.

    Raises:
        InputError: windows that can't be cut.
    """
    check_windows_of_images(cfg)
    window, stride = cfg.TEST.SLIDING_WINDOW, cfg.TEST.SLIDING_STRIDE
    return SlidingSegmentor(model, window, stride).train(model.training) if window else model


class SlidingSegmentor(nn.Module):
    """Gives for an image what its windows give, averaged where they overlap; smaller images are taken whole."""

    def __init__(self, model: nn.Module, window: int, stride: int):
        """Takes a segmentor of Detectron2's kind, and the windows' side and distance in pixels of its input."""
        super().__init__()
        self.model, self.window, self.stride = model, window, stride

    def forward(self, batch: Sequence[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
        """Takes a batch as the segmentor does.

        Returns:
            For each image "sem_seg", logits (classes, "height", "width")
        """
        return [{"sem_seg": self._segment(image)} for image in batch]

    def _segment(self, entry: dict[str, Any]) -> torch.Tensor:
        image, total, count = entry["image"], None, None
        height, width = image.shape[-2:]
        places = list(itertools.product(self.list_starts(height), self.list_starts(width)))
        for start in range(0, len(places), WINDOWS_AT_ONCE):
            few = places[start : start + WINDOWS_AT_ONCE]
            crops = [{"image": image[:, top : top + self.window, left : left + self.window]} for top, left in few]
            for (top, left), result in zip(few, self.model(crops), strict=True):
                logits = result["sem_seg"].float()
                if total is None or count is None:
                    total, count = logits.new_zeros(len(logits), height, width), logits.new_zeros(height, width)
                rows, columns = slice(top, top + logits.shape[1]), slice(left, left + logits.shape[2])
                total[:, rows, columns] += logits
                count[rows, columns] += 1
        assert total is not None and count is not None
        size = (entry.get("height", height), entry.get("width", width))
        return sem_seg_postprocess(total / count, (height, width), *size)

    def list_starts(self, side: int) -> Iterator[int]:
        """Lists where windows begin along a side: the last one ends with it."""
        last = max(side - self.window, 0)
        yield from range(0, last, self.stride)
        yield last
