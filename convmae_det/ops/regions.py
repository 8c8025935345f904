"""Heads that see a number of regions of their own in each step, in few numbers of regions.

oneDNN compiles a kernel for each shape that it meets, and keeps it. The regions of an image are never as many as those
of the last one, so that a detector on a CPU would go on compiling for hundreds of steps, and fill a gigabyte.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from . import choice


def pad_regions(model: nn.Module, heads: type | tuple[type, ...]) -> None:
    """From now on every module of `heads` in the model sees its regions (R, …) together with some empty ones.

    Args:
        heads: classes of modules whose children run one after another and treat each region by itself. One that
            normalises over all regions is left as it is.
    """
    for head in model.modules():
        if isinstance(head, heads) and not any(isinstance(part, _NormBase) for part in head.modules()):
            first, *_, last = head.children()
            padding = _Padding()
            first.register_forward_pre_hook(padding.add)
            last.register_forward_hook(padding.remove)


class _Padding:
    """The empty regions that one head has been given in addition."""

    def __init__(self):
        self.surplus = 0

    def add(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        (features,) = inputs
        self.surplus = choice.padded_regions(features) - features.shape[0]
        if choice.is_transformed() or not self.surplus:
            self.surplus = 0  # nothing that a trace could keep
            return inputs
        return (F.pad(features, (0, 0) * (features.ndim - 1) + (0, self.surplus)),)

    def remove(self, module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        return output[: -self.surplus] if self.surplus else output
