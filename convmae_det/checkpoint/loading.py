"""Loads weights of any known format into a model, completely or not at all."""

import logging
from pathlib import Path

from torch import nn

from .conversion import to_ours
from .finding import MAIN, find_encoder, without_wrappers
from .fitting import Strictness, Weights, fit
from .formats import OFFICIAL, recognise
from .reading import check_finite, read
from .report import Report

logger = logging.getLogger(__name__)


def load_weights(
    model: nn.Module, path: str | Path, *, key: str = "", strictness: Strictness = Strictness.ENCODER
) -> Report:
    """Loads the weights at `path` into a MaskedAutoencoder, or a detector or backbone with a ConvMAE encoder.

    Any format of checkpoint/formats.py goes into either. Position tables are resized to the model's grids; a relative
    position bias that the file lacks starts at zero. What became of each weight is logged and returned.

    `key`: the keys and prefix, or some of their words, of one of several encoders in the file, such as "teacher".
    `strictness`: which parameters of the model must be in the file.

    Raises InputError, the model unchanged: the file can't be read, is of another network, or leaves a parameter of the
    encoder, or one of a head that it has, without a value.
    """
    return load(model, read_weights(path, key), strictness)


def load(model: nn.Module, weights: Weights, strictness: Strictness = Strictness.ENCODER) -> Report:
    """:func:`load_weights` of a file that is read already."""
    own = model.state_dict()
    names = dict(zip(without_wrappers(own), own, strict=True))
    fixed = without_wrappers(dict(model.named_buffers()))
    state, report = fit(weights, dict(zip(names, own.values(), strict=True)), fixed, strictness)
    model.load_state_dict({names[name]: tensor for name, tensor in state.items()}, strict=False)
    logger.info("Loaded %s", report)
    return report


def read_weights(path: str | Path, key: str = "") -> Weights:
    """The weights at `path` by our names, each at its own size. `key` as of :func:`load_weights`.

    Raises InputError: no file of ConvMAE weights, or of several encoders without a key.
    """
    found = find_encoder(read(path), path, key)
    format = recognise(found.tensors, path, found.prefix)
    start = found.prefix.removesuffix(format.prefix)
    tensors = {name.removeprefix(start): tensor for name, tensor in found.tensors.items() if name.startswith(start)}
    entries = found.entries | {name: tensor for name, tensor in found.tensors.items() if not name.startswith(start)}
    check_finite(tensors, path)
    prefix = format.prefix
    if format.layout == OFFICIAL:
        tensors, prefix = to_ours(tensors, prefix), f"{prefix}encoder."
    under = ".".join([*(k for k in found.keys if k not in MAIN), found.saved_prefix.removesuffix(format.prefix)])
    return Weights(str(path), format, tensors, prefix, entries, start, under.removesuffix("."))
