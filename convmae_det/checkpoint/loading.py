"""Loads weights of any known format into a model, completely or not at all."""

import logging
from pathlib import Path

from torch import nn

from .class_names import check_class_names
from .conversion import to_ours
from .finding import MAIN, find_encoder, remove_wrappers
from .fitting import Strictness, Weights, fit_weights
from .formats import OFFICIAL, recognise_format
from .reading import check_finite, read_checkpoint
from .report import Report

logger = logging.getLogger(__name__)


def load_weights(
    model: nn.Module,
    path: str | Path,
    *,
    key: str = "",
    strictness: Strictness = Strictness.ENCODER,
    other_channels: bool = False,
) -> Report:
    """Loads the weights at `path` into a MaskedAutoencoder, or a detector or backbone with a ConvMAE encoder.

    Any format of checkpoint/formats.py goes into either. Position tables are resized to the model's grids; a relative
    position bias that the file lacks starts at zero. The report is logged, too.

    Args:
        model: changed in place
        path: of the file
        key: chooses one of several encoders in the file, such as "teacher": the keys and prefix that lead to it, or
            some of their words
        strictness: which parameters of the model must be in the file
        other_channels: whether weights for images of other channels are adapted to the model's, see `channels`

    Returns:
        What became of each weight.

    Raises:
        InputError: the file can't be read, is of another network, or leaves a parameter of the encoder, or one of a
            head that it has, without a value. The model is then unchanged.
    """
    return assign_weights(model, read_weights(path, key), strictness, other_channels=other_channels)


def assign_weights(
    model: nn.Module,
    weights: Weights,
    strictness: Strictness = Strictness.ENCODER,
    *,
    other_channels: bool = False,
) -> Report:
    """Does what :func:`load_weights` does, for a file that is already read."""
    check_class_names(model, weights.entries, weights.path, strictness)
    own = model.state_dict()
    names = dict(zip(remove_wrappers(own), own, strict=True))
    fixed = remove_wrappers(dict(model.named_buffers()))
    target = dict(zip(names, own.values(), strict=True))
    state, report = fit_weights(weights, target, fixed, strictness, other_channels=other_channels)
    model.load_state_dict({names[name]: tensor for name, tensor in state.items()}, strict=False)
    logger.info("Loaded %s", report)
    return report


def read_weights(path: str | Path, key: str = "") -> Weights:
    """Reads the weights at `path` by our names, each at its own size.

    Args:
        path: of the file
        key: as for :func:`load_weights`

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
        tensors, prefix = to_ours(tensors, prefix), f"{prefix}encoder."
    under = ".".join([*(k for k in found.keys if k not in MAIN), found.saved_prefix.removesuffix(format.prefix)])
    return Weights(str(path), format, tensors, prefix, entries, start, under.removesuffix("."))
