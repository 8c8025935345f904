"""torch.compile, applied to a finished model."""

import logging
import secrets
from collections.abc import Callable

import torch
from torch import nn
from torch._dynamo.backends.registry import lookup_backend

from ..errors import shorten_error

logger = logging.getLogger(__name__)


INSTEAD = "so that it runs without: install a C++ compiler such as g++, or set MODEL.COMPILE False"


def compile_modules(model: nn.Module, kinds: type | tuple[type, ...]) -> None:
    """Compiles every module of `kinds` in the model when it is first called; the names of its weights stay.

    Where nothing can be compiled, for lack of a compiler for instance, one line says so and the model stays as it is. A
    module whose own compilation fails runs as it is, too, also with one line.
    """
    try:
        _try_compiling(next(model.parameters()).device)
    except Exception as error:  # of the compilers, which differ from one version of PyTorch to the next
        logger.warning(f"nothing can be compiled here ({shorten_error(error)}), {INSTEAD}")
        return
    for module in model.modules():
        if isinstance(module, kinds):
            module.compile(backend=_compile_graph)


def _compile_graph(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
    """The backend of torch.compile: PyTorch's own, and where that fails the operations one by one."""
    try:
        return lookup_backend("inductor")(graph, inputs)
    except Exception as error:  # as above
        logger.warning(f"a part of the model can't be compiled ({shorten_error(error)}), {INSTEAD}")
        return graph.forward


def _try_compiling(device: torch.device) -> None:
    """Compiles a small function for the device and runs it."""
    if device.type != "meta":
        size = 2 + secrets.randbelow(2**16)  # one that no earlier run has left compiled
        torch.compile(lambda x: (x + 1).sin())(torch.ones(size, device=device))
