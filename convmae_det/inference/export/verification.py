"""Exports networks, and compares what the file gives with what the network gives."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...errors import InputError
from . import onnx, torchscript
from .tracing import Runner, TraceableNetwork

FORMATS = ("torchscript", "onnx")

Report = Callable[[str], None]
# The outputs of two runs → how far they agree: the attribute `agrees`, and as text what differs.
Compare = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], Any]


def require_packages(format: str) -> None:
    """Checks that the packages are there that one of FORMATS needs.

    Raises:
        InputError: one isn't.
    """
    if format == "onnx":
        for package in ("onnx", "onnxruntime"):
            onnx.import_onnx(package)


def export_network(
    network: TraceableNetwork,
    examples: Sequence[torch.Tensor],
    text: str,
    format: str,
    compare: Compare,
    report: Report,
) -> bytes:
    """Writes a network as a file, which is traced on the first of some examples and compared on all.

    Args:
        network: on the device of the examples
        examples: inputs of it
        text: what the file says about the network
        format: one of FORMATS
        compare: the outputs of the network and of the file
        report: called with the result of each comparison

    Returns:
        The content of the file.

    Raises:
        InputError: more than rounding is different.
    """
    content, run = _write(network, examples[0], text, format)
    for example in examples:
        comparison = compare([output.cpu() for output in network(example)], run(example))
        report(f"{format_size(example)} pixels: {comparison}")
        if not comparison.agrees:
            raise InputError(
                "the exported network differs from eager mode by more than rounding, so no file is written"
            )
    return content


def _write(network: TraceableNetwork, example: torch.Tensor, text: str, format: str) -> tuple[bytes, Runner]:
    """Returns the content of the file, and a function that runs it."""
    if format == "onnx":
        content = onnx.to_onnx(network, example, text)
        return content, onnx.build_onnx_runner(content)
    content = torchscript.to_torchscript(network, example, text)
    return content, torchscript.build_torchscript_runner(content, str(example.device))


def format_size(image: torch.Tensor) -> str:
    return f"{image.shape[-1]}×{image.shape[-2]}"
