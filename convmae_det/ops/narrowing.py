"""Mixed precision on a GPU by fewer and smaller kernels than autocast's: weights cast together, norms of narrow tokens.

Autocast casts each weight and bias where a layer uses it, and each of their gradients back, by kernels that take longer
to launch than to run: nearly half of all kernels of a step. Here one kernel casts those of a block, and one their
gradients, when the backward pass has gone through the block.

It also casts tokens to float32 before each norm, which so writes twice as many bytes, for the next layer to cast back.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensor
from torch.autograd.function import once_differentiable

PLAIN = (nn.Parameter, FakeTensor)  # FakeTensor: a parameter without values
LAYERS = (nn.Linear, nn.Conv2d, nn.LayerNorm)  # which look up their weights; no classes of theirs


class _Narrowed(threading.local):
    """What the weights of the blocks that this thread runs have been cast to."""

    def __init__(self) -> None:
        self.weights: dict[int, torch.Tensor] = {}  # by the id of the parameter


narrowed = _Narrowed()


@contextlib.contextmanager
def narrow_weights(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within it `narrowed` has the weights of the module's LAYERS in `dtype`."""
    outer, wide = narrowed.weights, list_weights(module)
    if wide:
        narrowed.weights = outer | dict(zip(map(id, wide), _Cast.apply(dtype, *wide), strict=True))
    try:
        yield
    finally:
        narrowed.weights = outer


def list_weights(module: nn.Module) -> list[torch.Tensor]:
    """The float32 parameters of LAYERS; those that something else stands for, such as quantised ones, are left out."""
    layers = (layer for layer in module.modules() if type(layer) in LAYERS)
    weights = (weight for layer in layers for weight in layer.parameters(recurse=False))
    return [weight for weight in weights if type(weight) in PLAIN and weight.dtype == torch.float32]


class _Cast(torch.autograd.Function):
    """Tensors in another type, by one kernel for all; their gradients go the same way."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.dtype = tensors[0].dtype
        cast = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
        torch._foreach_copy_(cast, tensors)
        # Nothing computes gradients of what is frozen, as beside a LoRA.
        ctx.mark_non_differentiable(
            *(c for c, needed in zip(cast, ctx.needs_input_grad[1:], strict=True) if not needed)
        )
        return tuple(cast)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        cast = iter(_Cast.apply(ctx.dtype, *(gradient for gradient in gradients if gradient is not None)))
        return None, *(None if gradient is None else next(cast) for gradient in gradients)


class NarrowNorm(torch.autograd.Function):
    """Layer norm of tokens in a narrow type, by statistics, weight and bias in float32.

    CUDA's kernel takes weights in the type of the tokens alone. Rounded weights would move all tokens the same way,
    which gradients, unlike the rounding of each token by itself, don't average out; so tokens are multiplied by float32
    weights after it. The backward pass, which changes no token, takes the rounded ones.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tokens: torch.Tensor,
        narrow_weight: torch.Tensor,
        narrow_bias: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
    ) -> torch.Tensor:
        with torch.autocast(tokens.device.type, enabled=False):  # which on a GPU would make the tokens float32
            normal, mean, scale = torch.native_layer_norm(tokens, weight.shape, None, None, eps)
        ctx.save_for_backward(tokens, mean, scale, narrow_weight, narrow_bias)
        return torch.addcmul(bias, normal, weight, out=normal)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tokens, mean, scale, weight, bias = ctx.saved_tensors
        of_inputs = torch.ops.aten.native_layer_norm_backward(
            gradient, tokens, weight.shape, mean, scale, weight, bias, ctx.needs_input_grad[:3]
        )
        return *of_inputs, None, None, None
