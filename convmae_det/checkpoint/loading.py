"""Loads weights of any known format into a model, completely or not at all."""

import logging
from pathlib import Path

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .conversion import to_ours
from .fitting import Weights, fit
from .formats import OFFICIAL, recognise, unwrap
from .reading import check_finite, read
from .report import Report

logger = logging.getLogger(__name__)


def load_weights(model: nn.Module, path: str | Path) -> Report:
    """Loads the weights at `path` into a MaskedAutoencoder, or a detector or backbone with a ConvMAE encoder.

    Any format of checkpoint/formats.py goes into either. Position tables are resized to the model's grids; a relative
    position bias that the file lacks starts at zero. What became of each weight is logged and returned.

    Raises InputError, the model unchanged: the file can't be read, is of another network, or leaves a parameter of the
    encoder, or one of a head that it has, without a value.
    """
    return load(model, read_weights(path))


def load(model: nn.Module, weights: Weights) -> Report:
    """:func:`load_weights` of a file that is read already."""
    model = model.module if isinstance(model, DistributedDataParallel) else model
    fixed = {name for name, _ in model.named_buffers()}
    state, report = fit(weights, model.state_dict(), fixed)
    model.load_state_dict(state, strict=False)
    logger.info("Loaded %s", report)
    return report


def read_weights(path: str | Path) -> Weights:
    """The weights at `path` by our names, each at its own size. Raises InputError: no file of ConvMAE weights."""
    tensors, entries = unwrap(read(path), path)
    format = recognise(tensors, path)
    check_finite(tensors, path)
    if format.layout == OFFICIAL:
        return Weights(str(path), format, to_ours(tensors, format.prefix), f"{format.prefix}encoder.", entries)
    return Weights(str(path), format, tensors, format.prefix, entries)
