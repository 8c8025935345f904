"""Activation checkpointing, applied to a finished model."""

import contextlib
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from . import choice
from .layers import Form, recomputation


def recompute_activations(model: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> None:
    """Lets every module of `kinds` in the model keep nothing but its input for the backward pass, which runs it again.

    It takes less memory and about 30 % more time. Classes, names and weights stay.
    """
    for module in model.modules():
        if isinstance(module, kinds):
            module.forward = Form(_apply_recomputed, module)


def _apply_recomputed(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    """What the module's class gives."""
    if torch.is_grad_enabled() and not choice.is_functional():
        return checkpoint(_apply, module, *inputs, use_reentrant=False, **options)
    return type(module).forward(module, *inputs, **options)


def _apply(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    with contextlib.nullcontext() if choice.is_compiled() else recomputation.active():
        return type(module).forward(module, *inputs, **options)
