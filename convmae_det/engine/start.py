"""What a training starts with: its model, its first weights, and a warning of keys that do nothing."""

import logging

from detectron2.config import CfgNode, get_cfg
from torch import nn

from ..checkpoint import load_weights
from ..config.checks.rules import require
from ..config.defaults import add_convmae_config
from ..config.reading import flatten_keys
from ..config.unused import find_idle_keys
from ..inference.model import build_model
from ..modeling.encoder import Encoder
from .adapters import add_adapters

logger = logging.getLogger(__name__)


def build_model_to_train(cfg: CfgNode) -> nn.Module:
    """Builds a model, with the adapters of SOLVER.LORA_RANK beside the layers of its encoder.

    Raises:
        InputError: as :func:`..inference.model.build_model`; no encoder for adapters.
    """
    model, rank = build_model(cfg), cfg.SOLVER.LORA_RANK
    if not rank:
        return model
    encoders = [part for part in model.modules() if isinstance(part, Encoder)]
    require(bool(encoders), "SOLVER.LORA_RANK", rank, "be 0 for a model without a ConvMAE encoder")
    layers = sum(add_adapters(encoder, rank) for encoder in encoders)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    logger.info(f"LoRA: adapters of rank {rank} beside {layers} layers of the encoder; {trained:,} parameters trained")
    return model


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
