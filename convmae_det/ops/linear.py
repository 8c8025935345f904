"""Linear layers on channels-last tokens (…, C), the bulk of all operations.

PyTorch gives matrix products to MKL, which uses the widest vectors of its maker's processors only, and convolutions to
oneDNN, which uses those of any: 1.5 to 2 times the speed on an AMD EPYC with AVX-512.
"""

from types import MethodType

import torch
import torch.nn.functional as F
from torch import nn

from . import choice


def accelerate_linear_layers(module: nn.Module) -> None:
    """Lets every `nn.Linear` in the module run as the 1×1 convolution that it also is.

    Class, names and weights stay, so that whatever looks for linear layers (adapters, quantisation, parametrisation)
    finds them.
    """
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.forward = MethodType(forward, layer)  # a method, so that a copy of the layer gets its own


def forward(layer: nn.Linear, tokens: torch.Tensor) -> torch.Tensor:
    """(…, in) → (…, out)"""
    if choice.linear_is_convolution(tokens):
        return convolution(tokens, layer.weight, layer.bias)
    return F.linear(tokens, layer.weight, layer.bias)


def convolution(tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """F.linear(tokens, weight, bias): (…, in), (out, in), (out,) → (…, out)"""
    maps = tokens.reshape(1, -1, 1, tokens.shape[-1]).permute(0, 3, 1, 2)  # channels_last format: the same memory
    result = F.conv2d(maps, weight[:, :, None, None], bias)
    return result.permute(0, 2, 3, 1).reshape(*tokens.shape[:-1], len(weight))
