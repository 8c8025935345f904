"""Loads weights of any known format into a model, completely or not at all."""

import logging
from pathlib import Path

from torch import nn

from .class_names import check_class_names
from .finding import remove_wrappers
from .fitting import Strictness, fit_weights
from .report import Report
from .weights import Weights, read_weights

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
