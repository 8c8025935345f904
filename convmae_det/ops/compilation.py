"""torch.compile, applied to a finished model."""

import logging
import secrets

import torch
from torch import nn

from ..errors import shorten_error

logger = logging.getLogger(__name__)


def compile_modules(model: nn.Module, kinds: type | tuple[type, ...]) -> None:
    """Compiles every module of `kinds` in the model; the names of its weights stay.

    Where nothing can be compiled, for lack of a compiler for instance, one line says so and the model stays as it is.
    """
    try:
        _try_compiling(next(model.parameters()).device)
    except Exception as error:  # of the compilers, which differ from one version of PyTorch to the next
        logger.warning(
            f"MODEL.COMPILE is True, but nothing can be compiled here ({shorten_error(error)}), so that the model runs "
            "without it: install a C++ compiler such as g++, or set it to False"
        )
        return
    for module in model.modules():
        if isinstance(module, kinds):
            module.compile()


def _try_compiling(device: torch.device) -> None:
    """Compiles a small function for the device and runs it."""
    if device.type != "meta":
        size = 2 + secrets.randbelow(2**16)  # one that no earlier run has left compiled
        torch.compile(lambda x: (x + 1).sin())(torch.ones(size, device=device))
