"""What tracing asks of a network, whatever the format of the file."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

DESCRIPTION = (
    "convmae_det.json"  # JSON beside the network: the name of TorchScript's extra file, and of ONNX's metadata
)

Axes = dict[str, dict[int, str]]  # names of inputs or outputs, and of those of their axes that have any length
Runner = Callable[[torch.Tensor], Sequence[torch.Tensor]]  # a network's input → its outputs, on the CPU


class TraceableNetwork(nn.Module):
    """A network as a function of tensors: one in, several out."""

    input_axes: Axes
    output_axes: Axes


@contextlib.contextmanager
def suppress_tracing_warnings() -> Iterator[None]:
    """Suppresses warnings of tracing: branches that are the same for every image, and its own deprecation."""
    loggers = [logging.getLogger(name) for name in ("torch.fx._symbolic_trace", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
