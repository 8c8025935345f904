"""The config.yaml that a run leaves beside its weights, read without Detectron2 and without trust in its source."""

import itertools
from pathlib import Path

import yaml
from yacs.config import CfgNode

from .checkpoint.reading import one_line
from .errors import InputError
from .modeling.encoder import encoder_arguments

CONFIG = "config.yaml"
MAX_VALUES = 100_000  # in one file; ours have some 400
TAKE = f"take the {CONFIG} that a run wrote"


class PlainLoader(yaml.SafeLoader):
    """yaml.SafeLoader, but a short file can't stand for a huge tree, or one without end, by referring to its parts."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node


def _count_values(node: yaml.Node, counted: dict[int, int]) -> int:
    """In the tree below `node`, each as often as it is referred to. Raises yaml.YAMLError: too many, or no end."""
    if id(node) not in counted:
        counted[id(node)] = MAX_VALUES  # of one that is reached from itself
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        pairs = itertools.chain(*inner) if isinstance(node, yaml.MappingNode) else inner
        counted[id(node)] = 1 + sum(_count_values(part, counted) for part in pairs)
    if counted[id(node)] > MAX_VALUES:
        problem = f"it refers to itself, or stands for more than {MAX_VALUES:,} values"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return counted[id(node)]


def read_plain_yaml(path: str | Path) -> object:
    """What a YAML file holds. Raises InputError: it can't be read, or more than plain values stand in it."""
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            return yaml.load(file, PlainLoader)
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also of dates that there are not
        where = getattr(error, "problem_mark", None)
        where = f"{where.name}, line {where.line + 1}," if where else path
        problem = getattr(error, "problem", None) or one_line(error)
        raise InputError(f"{where} is not plain YAML ({problem}): correct it") from error


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


def is_detector(cfg: CfgNode) -> bool:
    return cfg.MODEL.META_ARCHITECTURE != "MaskedAutoencoder"
