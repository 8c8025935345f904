"""Reads YAML files as plain values.

A file may come from a stranger: no code in it is run, its size is limited, and it can't make other files be read.
"""

import difflib
import importlib.resources
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from ..errors import InputError, shorten_error
from .building import build_encoder_arguments
from .precedence import find_replaced

OURS = "convmae_det://"  # what the names of the project's own configurations begin with
STUDIES = f"{OURS}studies/"
BASE = "_BASE_"
CONFIG = "config.yaml"  # of a run, in its OUTPUT_DIR
ADVICE = f"take the {CONFIG} that a run wrote"
MAX_VALUES = 100_000  # in one file; ours have some 400
MAX_BASES = 50  # files that one file builds on


class PlainLoader(yaml.SafeLoader):
    """yaml.SafeLoader, except that references can't turn a short file into a huge or endless tree."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node


def _count_values(node: yaml.Node, counted: dict[int, int]) -> int:
    """Counts the values below `node`, each as often as it is referred to.

    Raises:
        yaml.YAMLError: too many, or endless.
    """
    if id(node) not in counted:
        counted[id(node)] = MAX_VALUES  # kept if the node contains itself
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        pairs = itertools.chain(*inner) if isinstance(node, yaml.MappingNode) else inner
        counted[id(node)] = 1 + sum(_count_values(part, counted) for part in pairs)
    if counted[id(node)] > MAX_VALUES:
        problem = f"it refers to itself, or stands for more than {MAX_VALUES:,} values"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return counted[id(node)]


def read_plain_yaml(path: str | Path) -> object:
    """Reads the content of a YAML file.

    Raises:
        InputError: it can't be read, or contains more than plain values.
    """
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            return yaml.load(file, PlainLoader)
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also for invalid dates
        where = getattr(error, "problem_mark", None)
        where = f"{where.name}, line {where.line + 1}," if where else path
        problem = getattr(error, "problem", None) or shorten_error(error)
        raise InputError(f"{where} is not plain YAML ({problem}): correct it") from error


def read_yaml(path: str) -> Iterator[tuple[str, object]]:
    """Reads the dotted keys and values of a YAML file and those that its _BASE_ names.

    A _BASE_ is one of the project's own, or a path relative to the file that names it, or a list of these. The files
    must lie in the folder of `path`, the working directory or our configs/, or in folders inside.

    Args:
        path: a file, or one of the project's own, such as convmae_det://mask_rcnn_convmae_b.yaml

    Raises:
        InputError: see `read_plain_yaml`; a _BASE_ elsewhere, or in a loop; or keys that aren't nested.
    """
    path = locate_config(os.path.expanduser(path))
    folders = [os.path.realpath(folder) for folder in (os.path.dirname(path), os.curdir, find_configs_folder())]
    tree = _read_tree_with_bases(path, folders, [], ())
    if "variants" in tree:
        raise InputError(f"{path} is a study, not a configuration: give it to convmae-det study")
    yield from flatten_keys(tree)


def find_configs_folder() -> Path:
    """Finds the project's own configurations.

    In a clone, whichever package is installed, they are its configs/; else those installed as convmae_det.configs.
    """
    clone = Path(__file__).parents[2]
    if (clone / "setup.cfg").is_file():
        return clone / "configs"
    return Path(str(importlib.resources.files("convmae_det.configs")))


def locate_config(path: str) -> str:
    """Returns the path of one of the project's own configurations, if `path` is the name of one; else `path`.

    Raises:
        InputError: no configuration has this name.
    """
    if not path.startswith(OURS):
        return path
    folder = find_configs_folder()
    files = {f"{OURS}{file.relative_to(folder).as_posix()}": file for file in sorted(folder.rglob("*.yaml"))}
    if path not in files:  # also for paths outside the folder
        alike = [name for name in files if name.startswith(STUDIES) == path.startswith(STUDIES)]
        near = difflib.get_close_matches(path, alike) or alike
        raise InputError(f"{path} is none of the project's configurations: choose {', '.join(near)}")
    return str(files[path])


def _read_tree_with_bases(path: str, folders: list[str], read: list[str], above: tuple[str, ...]) -> dict:
    """Reads a file and its bases.

    Args:
        path: of the file
        folders: where bases may lie
        read: all files so far, to which this one is added
        above: the files that lead here by _BASE_
    """
    file = os.path.realpath(path)
    read.append(file)
    if file in above or len(read) > MAX_BASES:
        loop = "in a loop" if file in above else f"on more than {MAX_BASES} files"
        raise InputError(f"{above[0]} builds {loop} by {BASE}, so it is not made of nested keys: correct it")
    tree = _read_tree(path)
    bases = tree.pop(BASE, [])
    merged: dict = {}
    for base in bases if isinstance(bases, list) else [bases]:
        base = _find_base(path, base, folders)
        _put_over(_read_tree_with_bases(base, folders, read, (*above, file)), merged, base)
    _put_over(tree, merged, path)
    return merged


def _find_base(path: str, base: object, folders: list[str]) -> str:
    if not isinstance(base, str):
        raise InputError(
            f"{path} is not made of nested keys and a {BASE} that is a path: {BASE} is {base!r}; correct it"
        )
    if base.startswith(OURS):
        return locate_config(base)
    if "://" in base or "\0" in base:
        raise InputError(f"{path} builds on {base} by {BASE}: download that file and give its path")
    found = os.path.join(os.path.dirname(path), os.path.expanduser(base))
    file = os.path.realpath(found)
    inside = any(os.path.commonpath([file, folder]) == folder for folder in folders)
    if not inside or not file.endswith((".yaml", ".yml")):
        raise InputError(
            f"{path} builds on {base} by {BASE}, which is not a .yaml file in its folder, in configs/ or in the folder "
            "where you are: copy the file there, or go to a folder that holds both"
        )
    return found


def _read_tree(path: str) -> dict:
    tree = read_plain_yaml(path)
    if not isinstance(tree, dict):
        raise InputError(f"{path} is not made of nested keys: it should hold lines like SOLVER: and BASE_LR: 0.0001")
    return tree


def _put_over(tree: dict, below: dict, path: str) -> None:
    for key in find_replaced(dict(flatten_keys(tree))):
        *nodes, name = key.split(".")
        _find_node(below, nodes).pop(name, None)
    _merge(tree, below, path)


def _find_node(tree: dict, names: Sequence[str]) -> dict:
    """Follows `names` from the root of a tree; an empty dict if it doesn't lead to a dict."""
    for name in names:
        tree = tree.get(name, {})
        tree = tree if isinstance(tree, dict) else {}
    return tree


def _merge(tree: dict, into: dict, path: str) -> None:
    for key, value in tree.items():
        if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
            _merge(value, into.setdefault(key, {}), path)
        elif isinstance(value, dict):
            raise InputError(f"{path}: {key} is not made of nested keys in a {BASE} of it, as it is here: correct one")
        else:
            into[key] = value


def flatten_keys(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted keys and values of nested dicts."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flatten_keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read_run_config(path: str | Path) -> CfgNode:
    """Reads the config.yaml that a run leaves beside its weights, which has every key. No other file is read.

    Raises:
        InputError: it can't be read, is not such a file, or names a _BASE_.
    """
    tree = read_plain_yaml(path)
    if isinstance(tree, dict) and BASE in tree:
        raise InputError(f"{path} builds on another file ({BASE}): {ADVICE}, which is complete")
    try:
        cfg = CfgNode(tree)
        build_encoder_arguments(cfg)
        _ = cfg.MODEL.META_ARCHITECTURE, cfg.INPUT.FORMAT
    except (AttributeError, AssertionError, TypeError) as error:
        raise InputError(f"{path} doesn't describe a ConvMAE network, or not completely ({error}): {ADVICE}") from error
    return cfg
