"""The names of a model's classes, beside its weights, so that weights of other classes are noticed.

A model has them as the attribute ``class_names``, a list of str in the order of its outputs, if they are known.
"""

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import InputError, shorten_list
from .fitting import Strictness

logger = logging.getLogger(__name__)

KEY = "class_names"


def describe_classes(model: nn.Module) -> dict[str, list[str]]:
    """Returns what a checkpoint of the model says about its classes."""
    names = getattr(model, KEY, None)
    return {KEY: list(names)} if names else {}


def read_class_names(entries: Mapping[str, Any]) -> list[str]:
    """Reads the names of the classes from what a file holds beside its weights; empty: it names none.

    mmsegmentation keeps them under "meta", as "CLASSES".
    """
    meta = entries.get("meta")
    names = entries.get(KEY) or (meta.get("CLASSES") if isinstance(meta, Mapping) else None)
    return [*map(str, names)] if isinstance(names, (list, tuple)) else []


def check_class_names(model: nn.Module, entries: Mapping[str, Any], path: Any, strictness: Strictness) -> None:
    """Compares the classes of a model with those that a file's weights were trained on, if both are known.

    Other classes to begin a run with are logged, if the weights of their outputs are loaded; so are as many others in a
    file of mmsegmentation's, which names the same classes otherwise (road, where Detectron2 has "road, route").

    Args:
        model: about to be changed
        entries: what the file holds beside the weights
        path: of the file
        strictness: how the weights are to be loaded

    Raises:
        InputError: they differ, and the weights are to be used as they are, or to resume their run.
    """
    ours, theirs = getattr(model, KEY, None), read_class_names(entries)
    if not ours or not theirs or list(ours) == theirs:
        return
    trained = f"{path} was trained on the classes {shorten_list(theirs)}"
    if strictness == Strictness.ENCODER:
        if len(theirs) == len(ours):
            logger.warning(f"{trained}: what it learned of them begins the training of {shorten_list(ours)}")
        return
    if KEY not in entries and len(theirs) == len(ours):
        logger.warning(f"{trained}: are these, in this order, {shorten_list(ours)}?")
        return
    advice = "use it with the config.yaml that was written beside it, and with data of its classes"
    if strictness == Strictness.EXACT:
        advice = "resume it with data of its classes, or begin a new run with it as MODEL.WEIGHTS"
    raise InputError(f"{trained}, but the configuration names {shorten_list(ours)}: {advice}")
