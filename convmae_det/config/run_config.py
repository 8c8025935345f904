"""The config.yaml that a run leaves beside its weights, read without Detectron2 and without trust in its source."""

from pathlib import Path

from yacs.config import CfgNode

from ..errors import InputError
from .building import encoder_arguments
from .plain_yaml import read_plain_yaml

CONFIG = "config.yaml"
TAKE = f"take the {CONFIG} that a run wrote"


def read_run_config(path: str | Path) -> CfgNode:
    """A configuration in which every key stands, as a run writes it. No code in it is run, no other file is read.

    Raises InputError: it can't be read, is not such a file, or names a _BASE_.
    """
    tree = read_plain_yaml(path)
    if isinstance(tree, dict) and "_BASE_" in tree:
        raise InputError(f"{path} builds on another file (_BASE_): {TAKE}, which is complete")
    try:
        cfg = CfgNode(tree)
        encoder_arguments(cfg)
        _ = cfg.MODEL.META_ARCHITECTURE
    except (AttributeError, AssertionError, TypeError) as error:
        raise InputError(f"{path} doesn't describe a ConvMAE network, or not completely ({error}): {TAKE}") from error
    return cfg
