"""Writes checkpoints."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ..errors import InputError
from ..files import atomic_write
from .adapters import merge_adapters
from .class_names import describe_classes
from .record import record_file

ENDINGS = (".pth", ".pt", ".safetensors")


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Returns what a checkpoint holds of a model: its weights, adapters merged, and the names of its classes."""
    return {"model": merge_adapters(model.state_dict())} | describe_classes(model)


def write_checkpoint(content: dict[str, Any], path: str | Path, *, recorded: bool = False) -> None:
    """Writes a checkpoint, its tensors under "model", in the format given by the suffix of `path`.

    A .safetensors file stores the tensors and, as metadata, strings and numbers.

    Args:
        content: see above
        path: of the file
        recorded: whether the record of its folder is to say that a run wrote it

    Raises:
        InputError: unknown suffix, no such folder, disk full, file too large. A previous file is then unchanged.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise InputError(f"{path} has no ending of a file of weights: use {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    with atomic_write(path) as file:
        if path.suffix == ".safetensors":
            tensors = {name: tensor.detach().clone().contiguous() for name, tensor in content["model"].items()}
            metadata = {key: str(value) for key, value in content.items() if isinstance(value, (str, int, float))}
            file.write(safetensors.torch.save(tensors, metadata))
        else:
            torch.save(content, file)
        if recorded:
            file.flush()
            record_file(file.name, path)  # before it gets its name: a run that is killed here knows it again
