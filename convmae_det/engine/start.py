"""What a training starts with: its first weights, and a warning of keys that do nothing."""

import logging

from detectron2.config import CfgNode, get_cfg
from torch import nn

from ..checkpoint import load_weights
from ..config.defaults import add_convmae_config
from ..config.reading import flatten_keys
from ..config.unused import find_idle_keys

logger = logging.getLogger(__name__)


def warn_of_idle_keys(cfg: CfgNode) -> None:
    """Logs the keys that differ from their defaults and do nothing, since others switch them off."""
    defaults = get_cfg()
    add_convmae_config(defaults)
    idle = list(find_idle_keys(dict(flatten_keys(cfg)), dict(flatten_keys(defaults))))
    if idle:
        logger.warning(f"These keys are set but do nothing here: {'; '.join(idle)}")


def load_initial_weights(model: nn.Module, cfg: CfgNode) -> None:
    """Loads MODEL.WEIGHTS to start training from, which may leave heads at random.

    Raises:
        InputError: they can't be loaded.
    """
    if cfg.MODEL.WEIGHTS:
        load_weights(model, cfg.MODEL.WEIGHTS, other_channels=cfg.MODEL.CONVMAE.ADAPT_CHANNELS)
    else:
        logger.warning("MODEL.WEIGHTS is empty: training starts from random weights")
