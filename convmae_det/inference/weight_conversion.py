"""Converts weights: to a detector that plain Detectron2 loads, or to the published layout."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import torch

from ..checkpoint.conversion import to_official
from ..checkpoint.fitting import CONFIGURED, COUNTER, POSITION, RELATIVE, fit_weights
from ..checkpoint.report import Report
from ..checkpoint.weights import Weights, find_encoder_prefixes
from ..data.configuration import read_config
from .model import build_model

LAYOUTS = ("official", "encoder")  # beside that of a model


def convert_weights(
    weights: Weights, config_file: str = "", pairs: Sequence[str] = (), to: str | None = None
) -> tuple[dict[str, torch.Tensor], Report]:
    """Fits weights to the model of a configuration, or converts them to another layout.

    Args:
        weights: of any format that is read
        config_file: of the model that is to load them; empty: weights of a detector keep their sizes, others are fitted
            to the default detector
        pairs: KEY VALUE pairs that follow the configuration
        to: one of LAYOUTS: the published one, or our encoder alone, without pyramid, heads and decoder

    Returns:
        The tensors by name, and what became of each weight.

    Raises:
        InputError: the weights don't fit the model.
    """
    if to == "encoder":
        encoder = {name: tensor for name, tensor in weights.tensors.items() if name.startswith(weights.prefix or "")}
        weights = dataclasses.replace(weights, tensors=encoder, entries={})
    if not config_file and (to == "official" or (weights.prefix or "").startswith("backbone.")):
        state, report = fit_weights(weights, _build_target_of_file(weights, pairs))
    else:
        model = _build_empty_model(weights, config_file, pairs)
        state, report = fit_weights(weights, model.state_dict(), {name for name, _ in model.named_buffers()})
    if to == "official":
        (prefix,) = find_encoder_prefixes(state)
        state = to_official(state, prefix.removesuffix("encoder."))
    return state, report


def _build_target_of_file(weights: Weights, pairs: Sequence[str]) -> dict[str, torch.Tensor]:
    """Builds shapes and types of a model in which everything has the file's size; the encoder's are complete."""
    prefix = weights.prefix or "encoder."
    backbone = _build_empty_model(weights, "", ["MODEL.CONVMAE.RELATIVE_POSITION", "none", *pairs]).backbone.bottom_up
    target = {prefix + name: tensor for name, tensor in backbone.encoder.state_dict().items()}
    for name, tensor in weights.rename_tensors([prefix]).items():
        outside = not name.startswith(prefix) and not re.search(CONFIGURED, name)
        if outside or re.search(rf"{POSITION}|{RELATIVE}|^{re.escape(prefix)}norm\.", name):
            target[name] = tensor if re.search(COUNTER, name) else tensor.float()
    return target


def _build_empty_model(weights: Weights, config_file: str, pairs: Sequence[str]) -> Any:
    """Builds the model of the configuration, or the default detector on the file's encoder, without memory."""
    cfg = read_config(config_file, pairs if config_file else [*_list_encoder_settings(weights, pairs), *pairs])
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg, for_long=False)


def _list_encoder_settings(weights: Weights, pairs: Sequence[str]) -> list[str]:
    """Lists KEY VALUE pairs that describe the file's encoder."""
    shape = weights.shape
    settings = {f"MODEL.CONVMAE.{key}": value for key, value in shape.list_settings().items()}
    settings["MODEL.PIXEL_MEAN"], settings["MODEL.PIXEL_STD"] = [0.0] * shape.in_channels, [1.0] * shape.in_channels
    if not shape.preset and not shape.num_heads and "MODEL.CONVMAE.NUM_HEADS" not in pairs:
        # Bias tables, of which each head has its own, start at zero anyway; no weight depends on the number of heads.
        settings |= {"MODEL.CONVMAE.NUM_HEADS": 1, "MODEL.CONVMAE.RELATIVE_POSITION": "none"}
    return [str(word) for pair in settings.items() for word in pair]
