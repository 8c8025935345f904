"""Depthwise convolution of dense maps, with fast gradients of its weights.

oneDNN computes these gradients of a depthwise convolution at a fiftieth of a processor's rate. Those of a convolution
in groups of as many channels as a vector holds it computes at the full rate, so that all of them, of which the diagonal
of each group alone is needed, take half to a third of the time.
"""

import torch
import torch.nn.functional as F
from torch import nn

from . import choice


class DepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d(dim, dim, kernel_size, groups=dim) that keeps the size of its maps; `kernel_size` is odd."""

    def __init__(self, dim: int, kernel_size: int):
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, dim, h, w) → (N, dim, h, w)"""
        group = choice.depthwise_group(maps)
        if group and self.weight.requires_grad and torch.is_grad_enabled():
            return _Depthwise.apply(maps, self.weight, self.bias, group)
        return super().forward(maps)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, maps, weight, bias, group):
        ctx.save_for_backward(maps, weight)
        ctx.group = group
        return F.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient):
        maps, weight = ctx.saved_tensors
        of_maps = _backward(gradient, maps, weight, len(weight), 0) if ctx.needs_input_grad[0] else None
        grouped = weight.new_zeros(len(weight), ctx.group, *weight.shape[2:])  # its values are not looked at
        of_groups = _backward(gradient, maps, grouped, len(weight) // ctx.group, 1)
        diagonals = of_groups.unflatten(0, (-1, ctx.group)).diagonal(dim1=1, dim2=2)  # (groups, k, k, channels of one)
        of_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return of_maps, diagonals.movedim(-1, 1).reshape(weight.shape), of_bias, None


def _backward(gradient, maps, weight, groups: int, wanted: int) -> torch.Tensor:
    """The gradient of the maps (`wanted` 0) or of the weight (1) of a convolution."""
    padding, mask = [weight.shape[-1] // 2] * 2, [wanted == index for index in range(3)]
    geometry = [1, 1], padding, [1, 1], False, [0, 0], groups
    return torch.ops.aten.convolution_backward(gradient, maps, weight, [len(weight)], *geometry, mask)[wanted]
