"""The weights of a file by our names, and where in a model, or a file, the encoder is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from .conversion import to_ours
from .encoder_shape import EncoderShape, infer_encoder_shape
from .finding import MAIN, find_encoder, remove_wrappers
from .formats import OFFICIAL, OURS, Format, recognise_format
from .reading import check_finite, read_checkpoint

LANDMARK = "stage1.patch_embed.proj.weight"
INSIDE = ("stage1.", "stage2.", "stage3.", "norm.")


@dataclass
class Weights:
    """The content of a file in our layout."""

    path: str
    format: Format
    tensors: dict[str, torch.Tensor]
    prefix: str | None  # before stage1.… in the names of `tensors`; None: the names are the model's own
    entries: dict[str, Any] = field(default_factory=dict)  # what the file holds beside them: epoch, optimizer, …
    start: str = ""  # of the names of `tensors` in the file, such as "student."
    under: str = ""  # their place in the file, unless it is the usual one: keys and `start`, with wrappers

    @classmethod
    def from_run(cls, path: Any, tensors: dict[str, torch.Tensor]) -> "Weights":
        """Takes the weights that a run wrote, for the same model: nothing is renamed."""
        return cls(str(path), Format("checkpoint of a run", (), OURS), remove_wrappers(tensors), prefix=None)

    @property
    def shape(self) -> EncoderShape:
        return infer_encoder_shape(self.tensors, self.prefix or "")

    @property
    def kind(self) -> str:
        kind = f"{self.format.name} under {self.under}" if self.under else self.format.name
        return kind if self.prefix is None else f"{kind}, {self.shape}"

    def rename_tensors(self, prefixes: Sequence[str]) -> dict[str, torch.Tensor]:
        """Returns the tensors by the names of a model whose encoder has another prefix.

        Args:
            prefixes: of the model's encoders, see :func:`find_encoder_prefixes`

        Raises:
            InputError: the model doesn't have exactly one encoder.
        """
        if self.prefix is None:
            return dict(self.tensors)
        if len(prefixes) != 1:
            raise InputError(
                f"the model has {len(prefixes)} ConvMAE encoders, at {', '.join(prefixes)}: load into one at a time"
                if prefixes
                else "the model has no ConvMAE encoder: set MODEL.BACKBONE.NAME to build_convmae_backbone, "
                "build_convmae_fpn_backbone or build_convmae_sfp_backbone"
            )
        (prefix,) = prefixes
        if self.start and prefix == self.start + self.prefix:  # the file's own model: all names are the same
            beside = {name: entry for name, entry in self.entries.items() if isinstance(entry, torch.Tensor)}
            return beside | {self.start + name: tensor for name, tensor in self.tensors.items()}
        return {
            prefix + inner if (inner := strip_encoder_prefix(name, [self.prefix])) else name: tensor
            for name, tensor in self.tensors.items()
        }


def find_encoder_prefixes(names: Collection[str]) -> list[str]:
    """Finds what stands before stage1.… in the names of a model, for each of its ConvMAE encoders."""
    return [name.removesuffix(LANDMARK) for name in names if name == LANDMARK or name.endswith(f".{LANDMARK}")]


def strip_encoder_prefix(name: str, prefixes: Sequence[str]) -> str:
    """Returns the name within the encoder; empty for what isn't part of an encoder."""
    of_encoder = (prefix for prefix in prefixes if name.startswith(prefix or INSIDE))
    return next((name.removeprefix(prefix) for prefix in of_encoder), "")


def read_weights(path: str | Path, key: str = "") -> Weights:
    """Reads the weights at `path` by our names, each at its own size.

    Args:
        path: of the file
        key: chooses one of several encoders in the file, as for :func:`.loading.load_weights`

    Raises:
        InputError: the file contains no ConvMAE weights, or several encoders and no key is given.
    """
    found = find_encoder(read_checkpoint(path), path, key)
    format = recognise_format(found.tensors, path, found.prefix)
    start = found.prefix.removesuffix(format.prefix)
    tensors = {name.removeprefix(start): tensor for name, tensor in found.tensors.items() if name.startswith(start)}
    entries = found.entries | {name: tensor for name, tensor in found.tensors.items() if not name.startswith(start)}
    check_finite(tensors, path)
    prefix = format.prefix
    if format.layout == OFFICIAL:
        try:
            tensors, prefix = to_ours(tensors, prefix), f"{prefix}encoder."
        except InputError as error:  # names a tensor
            raise InputError(f"{path}: {error}") from error
    under = ".".join([*(k for k in found.keys if k not in MAIN), found.saved_prefix.removesuffix(format.prefix)])
    return Weights(str(path), format, tensors, prefix, entries, start, under.removesuffix("."))
