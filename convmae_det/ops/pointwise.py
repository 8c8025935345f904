"""Layers that treat each token by itself, one after another, without the memory that this would take.

On a CPU a map of more tokens than a cache holds goes through them piece by piece, and once more in the backward pass:
what is computed on the way neither goes to memory nor is kept. Elsewhere, what an activation function gives is not kept
but computed again from its input, which the backward pass needs anyway: a quarter of what a block keeps.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from . import choice

Kept = torch.Tensor | tuple[torch.Size, tuple[int, ...], int]  # a tensor, or shape, strides and offset of a view


def pointwise(tokens: torch.Tensor, *layers: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """layers[-1](… layers[0](tokens)) for (…, C) → (…, D).

    Args:
        tokens: (…, C)
        layers: modules, each called once for a piece of the tokens; an `nn.GELU` is computed again where it is needed
    """
    rows = tokens.flatten(0, -2)
    size = choice.piece_of(rows)
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
        recomputed = contextlib.nullcontext()
        if isinstance(layer, nn.GELU) and result.requires_grad and not (_state.in_piece or choice.is_transformed()):
            recomputed = _kept_as_input(layer, tokens.detach(), result)
        tokens = result
    return tokens


def _kept_as_input(function: nn.Module, tokens: torch.Tensor, result: torch.Tensor) -> saved_tensors_hooks:
    """A context in which autograd keeps of `result` and of views of it nothing but the way to compute them again.

    `result` is function(tokens).
    """
    memory = result.untyped_storage().data_ptr()

    def pack(tensor: torch.Tensor) -> Kept:
        if tensor.untyped_storage().data_ptr() != memory:
            return tensor
        return tensor.shape, tensor.stride(), int(tensor.storage_offset())

    def unpack(kept: Kept) -> torch.Tensor:
        return kept if isinstance(kept, torch.Tensor) else function(tokens).as_strided(*kept)

    return saved_tensors_hooks(pack, unpack)


def _piece(tokens: torch.Tensor, layers: tuple) -> torch.Tensor:
    with _state.piece():
        return _in_turn(tokens, layers)


class _State(threading.local):
    """Whether this thread computes a piece, which is computed again as a whole."""

    in_piece = False

    @contextlib.contextmanager
    def piece(self) -> Iterator[None]:
        self.in_piece, before = True, self.in_piece
        try:
            yield
        finally:
            self.in_piece = before


_state = _State()
