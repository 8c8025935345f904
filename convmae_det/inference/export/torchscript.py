"""TorchScript: files that need torch and torchvision alone."""

import io

import torch

from .tracing import DESCRIPTION, Runner, TraceableNetwork, suppress_tracing_warnings


def to_torchscript(network: TraceableNetwork, example: torch.Tensor, text: str) -> bytes:
    """Traces the network on an input of it, for its device. Returns the file's content, with `text` in it."""
    file = io.BytesIO()
    with suppress_tracing_warnings():
        traced = torch.jit.trace(network, (example,), check_trace=False)
        torch.jit.save(traced, file, _extra_files={DESCRIPTION: text})
    return file.getvalue()


def build_torchscript_runner(content: bytes, device: str) -> Runner:
    """Builds a function that runs an exported file."""
    with suppress_tracing_warnings():
        network = torch.jit.load(io.BytesIO(content), map_location=device)

    @torch.no_grad()
    def run(example: torch.Tensor) -> list[torch.Tensor]:
        return [output.cpu() for output in network(example.to(device))]

    return run
