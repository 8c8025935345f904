"""Depthwise convolution of dense maps, with fast gradients of its weights.

oneDNN computes these gradients of a depthwise convolution at a fiftieth of a processor's rate. Those of a convolution
in groups of as many channels as a vector holds it computes at the full rate, so that all of them, of which the diagonal
of each group alone is needed, take half to a third of the time.
"""

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from . import choice


def accelerate_depthwise_convolutions(module: nn.Module) -> None:
    """Lets every depthwise `nn.Conv2d` in the module compute the gradients of its weights in groups.

    Those that don't keep the size of their maps are left alone. Class, names and weights stay.
    """
    for layer in module.modules():
        if type(layer) is nn.Conv2d and layer.groups == layer.in_channels == layer.out_channels:
            same_size = layer.padding == tuple(side // 2 for side in layer.kernel_size) and layer.stride == (1, 1)
            if same_size and layer.kernel_size[0] % 2 and layer.kernel_size[0] == layer.kernel_size[1]:
                layer.forward = MethodType(forward, layer)  # a method, so that a copy of the layer gets its own


def forward(layer: nn.Conv2d, maps: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) → (N, C, h, w)"""
    group = choice.depthwise_group(maps)
    if group and layer.weight.requires_grad and torch.is_grad_enabled():
        return _Depthwise.apply(maps, layer.weight, layer.bias, group)
    return nn.Conv2d.forward(layer, maps)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, group: int
    ) -> torch.Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.group = group
        return F.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        of_maps = _backward(gradient, maps, weight, len(weight), 0) if ctx.needs_input_grad[0] else None
        grouped = weight.new_zeros(len(weight), ctx.group, *weight.shape[2:])  # its values are not looked at
        of_groups = _backward(gradient, maps, grouped, len(weight) // ctx.group, 1)
        diagonals = of_groups.unflatten(0, (-1, ctx.group)).diagonal(dim1=1, dim2=2)  # (groups, k, k, channels of one)
        of_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return of_maps, diagonals.movedim(-1, 1).reshape(weight.shape), of_bias, None


def _backward(
    gradient: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor, groups: int, wanted: int
) -> torch.Tensor:
    """The gradient of the maps (`wanted` 0) or of the weight (1) of a convolution."""
    padding, mask = [weight.shape[-1] // 2] * 2, [wanted == index for index in range(3)]
    geometry = [1, 1], padding, [1, 1], False, [0, 0], groups
    return torch.ops.aten.convolution_backward(gradient, maps, weight, [len(weight)], *geometry, mask)[wanted]
