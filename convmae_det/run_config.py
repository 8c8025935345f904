"""The config.yaml that a run leaves beside its weights, read without Detectron2 and without trust in its source."""

from pathlib import Path

import yaml
from yacs.config import CfgNode

from .errors import InputError
from .modeling.encoder import encoder_arguments

CONFIG = "config.yaml"
TAKE = f"take the {CONFIG} that a run wrote"


def read_run_config(path: str | Path) -> CfgNode:
    """A configuration in which every key stands, as a run writes it. No code in it is run, no other file is read.

    Raises InputError: it can't be read, is not such a file, or names a _BASE_.
    """
    try:
        tree = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not plain YAML: {TAKE}") from error
    if isinstance(tree, dict) and "_BASE_" in tree:
        raise InputError(f"{path} builds on another file (_BASE_): {TAKE}, which is complete")
    try:
        cfg = CfgNode(tree)
        encoder_arguments(cfg)
        _ = cfg.MODEL.META_ARCHITECTURE
    except (AttributeError, AssertionError, TypeError) as error:
        raise InputError(f"{path} doesn't describe a ConvMAE network, or not completely ({error}): {TAKE}") from error
    return cfg


def is_detector(cfg: CfgNode) -> bool:
    return cfg.MODEL.META_ARCHITECTURE != "MaskedAutoencoder"
