"""Layers of a network, called and made fast from outside. Their classes, names, weights and hooks stay.

Linear layers: PyTorch gives matrix products to MKL, which uses the widest vectors of its maker's processors only, and
convolutions to oneDNN, which uses those of any: 1.5 to 2 times the speed on an AMD EPYC with AVX-512.

Depthwise convolutions: oneDNN computes the gradients of their weights at a fiftieth of a processor's rate. Those of a
convolution in groups of as many channels as a vector holds it computes at the full rate, so that all of them, of which
the diagonal of each group alone is needed, take half to a third of the time.

Layers that treat each token by itself: on a CPU a map of more tokens than a cache holds goes through them piece by
piece, and once more in the backward pass, so that what is computed on the way neither goes to memory nor is kept.
Elsewhere, what an activation function gives is not kept but computed again from its input, which the backward pass
needs anyway: a quarter of what a block keeps.

Heads that see another number of regions in each step: oneDNN compiles a kernel for each shape that it meets, and keeps
it. A detector on a CPU would go on compiling for hundreds of steps, and fill a gigabyte.
"""

import contextlib
import copy
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from . import choice
from .narrowing import NarrowNorm, narrow_weights, narrowed

Kept = torch.Tensor | tuple[torch.Size, tuple[int, ...], int]  # a tensor, or shape, strides and offset of a view


class Form:
    """A function of a module and of what its method takes, to be set in the method's place on the module alone.

    It is copied and saved with the module, and doesn't keep it alive.
    """

    def __init__(self, function: Callable[..., Any], module: nn.Module):
        self.function, self._module = function, weakref.ref(module)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.function(self._module(), *inputs, **options)

    def __deepcopy__(self, memo: dict) -> "Form":
        return Form(*copy.deepcopy(self.__reduce__()[1], memo))

    def __reduce__(self) -> tuple:
        return Form, (self.function, self._module())


def accelerate(module: nn.Module) -> None:
    """Lets linear layers, norms and depthwise convolutions in the module run in the forms that choice.py chooses."""
    accelerate_linear_layers(module)
    accelerate_norms(module)
    accelerate_depthwise_convolutions(module)


def accelerate_linear_layers(module: nn.Module) -> None:
    """Lets every `nn.Linear` in the module run as the 1×1 convolution that it also is.

    Class, names and weights stay, so that whatever looks for linear layers (adapters, quantisation, parametrisation)
    finds them.
    """
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.forward = Form(_apply_linear, layer)


def _apply_linear(layer: nn.Linear, tokens: torch.Tensor) -> torch.Tensor:
    """(…, in) → (…, out)"""
    plain = type(layer.weight) in (torch.Tensor, nn.Parameter)  # what quantises may know of products alone
    if plain and choice.linear_is_convolution(tokens):
        return convolution(tokens, layer.weight, layer.bias)
    return F.linear(tokens, _narrow(layer.weight), _narrow(layer.bias))


def convolution(tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """F.linear(tokens, weight, bias): (…, in), (out, in), (out,) → (…, out)"""
    maps = tokens.reshape(1, -1, 1, tokens.shape[-1]).permute(0, 3, 1, 2)  # channels_last format: the same memory
    result = F.conv2d(maps, weight[:, :, None, None], bias)
    return result.permute(0, 2, 3, 1).reshape(*tokens.shape[:-1], len(weight))


def accelerate_norms(module: nn.Module) -> None:
    """Lets every `nn.LayerNorm` in the module give tokens in the type that they have, where that is chosen."""
    for layer in module.modules():
        if type(layer) is nn.LayerNorm:
            layer.forward = Form(_apply_norm, layer)


def _apply_norm(layer: nn.LayerNorm, tokens: torch.Tensor) -> torch.Tensor:
    """(…, C) → (…, C)"""
    if not choice.stream_is_narrow(tokens) or layer.weight is None or layer.bias is None:
        return nn.LayerNorm.forward(layer, tokens)
    wide = layer.weight, layer.bias
    narrow = (_narrow(weight).to(tokens.dtype) for weight in wide)
    return NarrowNorm.apply(tokens, *narrow, *(weight.detach() for weight in wide), layer.eps)


def match_stream(added: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """What is to be added to the tokens, in their type where their sum is to stay in it."""
    return added.to(tokens.dtype) if choice.stream_is_narrow(tokens) else added


def cast_together(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A module's forward method, which takes tokens first, with the weights of its layers cast at once if at all."""

    @functools.wraps(forward)
    def run(module: nn.Module, tokens: torch.Tensor, *inputs: Any, **options: Any) -> torch.Tensor:
        dtype = choice.find_cast_together(tokens)
        if dtype is None:
            return forward(module, tokens, *inputs, **options)
        with narrow_weights(module, dtype):
            return forward(module, tokens, *inputs, **options)

    return run


def _narrow(weight: Any) -> Any:
    """A weight or bias, or what it has been cast to for its block."""
    return narrowed.weights.get(id(weight), weight)


def accelerate_depthwise_convolutions(module: nn.Module) -> None:
    """Lets every depthwise `nn.Conv2d` in the module compute the gradients of its weights in groups.

    Those that don't keep the size of their maps are left alone. Class, names and weights stay.
    """
    for layer in module.modules():
        if type(layer) is nn.Conv2d and _is_plain_depthwise(layer):
            layer.forward = Form(_apply_depthwise, layer)


def _is_plain_depthwise(layer: nn.Conv2d) -> bool:
    """Whether nothing but its square, odd kernel tells it from `nn.Conv2d(C, C, k, padding=k // 2, groups=C)`."""
    height, width = layer.kernel_size
    others = layer.stride == layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    return depthwise and others and height == width and height % 2 == 1 and layer.padding == (height // 2,) * 2


def _apply_depthwise(layer: nn.Conv2d, maps: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) → (N, C, h, w)"""
    group = choice.choose_depthwise_group(maps)
    if group and layer.weight.requires_grad and torch.is_grad_enabled():
        return _GroupedGradients.apply(maps, layer.weight, layer.bias, group)
    return layer._conv_forward(maps, _narrow(layer.weight), _narrow(layer.bias))


class _GroupedGradients(torch.autograd.Function):
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
        of_maps = _convolution_gradient(gradient, maps, weight, len(weight), 0) if ctx.needs_input_grad[0] else None
        grouped = weight.new_zeros(len(weight), ctx.group, *weight.shape[2:])  # its values are not looked at
        of_groups = _convolution_gradient(gradient, maps, grouped, len(weight) // ctx.group, 1)
        diagonals = of_groups.unflatten(0, (-1, ctx.group)).diagonal(dim1=1, dim2=2)  # (groups, k, k, channels of one)
        of_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return of_maps, diagonals.movedim(-1, 1).reshape(weight.shape), of_bias, None


def _convolution_gradient(
    gradient: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor, groups: int, wanted: int
) -> torch.Tensor:
    """The gradient of the maps (`wanted` 0) or of the weight (1) of a convolution."""
    padding, mask = [weight.shape[-1] // 2] * 2, [wanted == index for index in range(3)]
    geometry = [1, 1], padding, [1, 1], False, [0, 0], groups
    return torch.ops.aten.convolution_backward(gradient, maps, weight, [len(weight)], *geometry, mask)[wanted]


def apply_pointwise(tokens: torch.Tensor, *layers: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """layers[-1](… layers[0](tokens)) for (…, C) → (…, D).

    Args:
        tokens: (…, C)
        layers: modules, each called once for a piece of the tokens; an `nn.GELU` is computed again where it is needed
    """
    rows = tokens.flatten(0, -2)
    size = choice.choose_piece(rows)
    if size is None:
        return _in_turn(tokens, layers)
    pieces = rows.split(size)
    if torch.is_grad_enabled():
        results = [checkpoint(_piece, piece, layers, use_reentrant=False) for piece in pieces]
    else:
        results = [_in_turn(piece, layers) for piece in pieces]
    return torch.cat(results).unflatten(0, tokens.shape[:-1])


def _in_turn(tokens: torch.Tensor, layers: tuple) -> torch.Tensor:
    recomputed = contextlib.nullcontext()
    for layer in layers:
        with recomputed:  # what the layer keeps of the tokens
            result = layer(tokens)
        recomputed = keep_input(layer, tokens, result) if _is_computed_again(layer) else contextlib.nullcontext()
        tokens = result
    return tokens


def _is_computed_again(layer: Callable) -> bool:
    """Whether the layer is an activation function, and no hook on it would see, or draw, more than it should."""
    return isinstance(layer, nn.GELU) and not (layer._forward_hooks or layer._forward_pre_hooks)


def keep_input(
    function: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor, result: torch.Tensor
) -> contextlib.AbstractContextManager:
    """A context in which autograd keeps of `result` and of views of it nothing but the way to compute them again.

    `result` is function(tokens). The context does nothing where all is computed again, or what looks on forbids it.
    """
    if recomputation.is_active or choice.is_transformed() or not result.requires_grad:
        return contextlib.nullcontext()
    tokens = tokens.detach()
    memory = result.untyped_storage()._cdata  # tensors without values have no address

    def pack(tensor: torch.Tensor) -> Kept:
        if tensor.untyped_storage()._cdata != memory:
            return tensor
        return tensor.shape, tensor.stride(), int(tensor.storage_offset())

    def unpack(kept: Kept) -> torch.Tensor:
        return kept if isinstance(kept, torch.Tensor) else function(tokens).as_strided(*kept)

    return saved_tensors_hooks(pack, unpack)


def _piece(tokens: torch.Tensor, layers: tuple) -> torch.Tensor:
    with recomputation.active():
        return _in_turn(tokens, layers)


def apply_placed(
    convolution: Callable[[torch.Tensor], torch.Tensor],
    place: Callable[[torch.Tensor], torch.Tensor],
    blocks: torch.Tensor,
) -> torch.Tensor:
    """convolution(place(blocks)), where `place` lays blocks out on a map, which need not be kept."""
    maps = place(blocks)
    if choice.keeps_placed_maps(blocks.device):
        return convolution(maps)
    with keep_input(place, blocks, maps):
        return convolution(maps)


class _Recomputation(threading.local):
    """Whether this thread computes what will be computed again as a whole, so that nothing in it need be kept."""

    is_active = False

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        self.is_active, before = True, self.is_active
        try:
            yield
        finally:
            self.is_active = before


recomputation = _Recomputation()


def pad_regions(model: nn.Module, heads: type | tuple[type, ...]) -> None:
    """Lets every module of `heads` in the model see its regions (R, …) together with some empty ones.

    Args:
        heads: classes of modules whose children run one after another and treat each region by itself. One that
            normalises over all regions is left as it is.
    """
    for head in model.modules():
        if isinstance(head, heads) and not any(isinstance(part, _NormBase) for part in head.modules()):
            first, *_, last = head.children()
            padding = _EmptyRegions()
            first.register_forward_pre_hook(padding.add)
            last.register_forward_hook(padding.remove)


class _EmptyRegions:
    """The empty regions that one head has been given in addition."""

    def __init__(self) -> None:
        self.surplus = 0

    def add(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        (features,) = inputs
        self.surplus = choice.choose_padded_regions(features) - features.shape[0]
        if choice.is_transformed() or not self.surplus:
            self.surplus = 0  # nothing that a trace could keep
            return inputs
        return (F.pad(features, (0, 0) * (features.ndim - 1) + (0, self.surplus)),)

    def remove(self, module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        return output[: -self.surplus] if self.surplus else output
