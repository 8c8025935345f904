"""From YAML files and KEY VALUE pairs to a configuration, with errors in one sentence."""

import difflib
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.config import CfgNode

from ..errors import InputError
from .plain_yaml import read_plain_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
BASE = "_BASE_"
BOX_WEIGHTS = ("MODEL.RPN.BBOX_REG_WEIGHTS", "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS")  # of x, y, width and height
NAMES = ("DATASETS.TRAIN", "DATASETS.TEST")
MAX_SHOWN = 200  # characters of a value in an error
MAX_BASES = 50  # files that one builds on

GROUPS = ("MODEL.", "INPUT.", "DATASETS.", "DATALOADER.", "SOLVER.", "TEST.")  # how keys begin


def split_pairs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """KEY VALUE pairs, and the other words. A file that is called like a key is a file."""
    pairs, others = [], []
    words = iter(words)
    for word in words:
        if word.startswith(GROUPS) and not os.path.exists(word):
            pairs += [word, *itertools.islice(words, 1)]
        else:
            others.append(word)
    return pairs, others


def read_yaml(path: str) -> Iterator[tuple[str, object]]:
    """The dotted keys and values of a YAML file and those that its _BASE_ names; no code in them is run.

    A _BASE_ is a path relative to the file that names it, or a list of them. Since a file may be a stranger's, they
    must lie in the folder of `path`, the working directory or our configs/, or in folders inside.
    """
    path = os.path.expanduser(path)
    folders = [os.path.realpath(folder) for folder in (os.path.dirname(path), os.curdir, CONFIGS)]
    yield from _leaves(_tree_with_bases(path, folders, [], ()))


def _tree_with_bases(path: str, folders: list[str], read: list[str], above: tuple[str, ...]) -> dict:
    """`read`: all files so far, to which this one is added; `above`: those that lead here by _BASE_."""
    file = os.path.realpath(path)
    read.append(file)
    if file in above or len(read) > MAX_BASES:
        loop = "in a loop" if file in above else f"on more than {MAX_BASES} files"
        raise InputError(f"{above[0]} builds {loop} by {BASE}, so it is not made of nested keys: correct it")
    tree = _tree(path)
    bases = tree.pop(BASE, [])
    merged: dict = {}
    for base in bases if isinstance(bases, list) else [bases]:
        base = _base_path(path, base, folders)
        _merge(_tree_with_bases(base, folders, read, (*above, file)), merged, base)
    _merge(tree, merged, path)
    return merged


def _base_path(path: str, base: object, folders: list[str]) -> str:
    if not isinstance(base, str):
        raise InputError(
            f"{path} is not made of nested keys and a {BASE} that is a path: {BASE} is {base!r}; correct it"
        )
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


def _tree(path: str) -> dict:
    tree = read_plain_yaml(path)
    if not isinstance(tree, dict):
        raise InputError(f"{path} is not made of nested keys: it should hold lines like SOLVER: and BASE_LR: 0.0001")
    return tree


def _merge(tree: dict, into: dict, path: str) -> None:
    for key, value in tree.items():
        if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
            _merge(value, into.setdefault(key, {}), path)
        elif isinstance(value, dict):
            raise InputError(f"{path}: {key} is not made of nested keys in a {BASE} of it, as it is here: correct one")
        else:
            into[key] = value


def _leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def set_key(cfg: CfgNode, key: str, value: object, source: str) -> None:
    """Sets the dotted `key`, which must exist, to a value of its type or to text that stands for one."""
    known = dict(_leaves(cfg))
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        if any(name.startswith(f"{key}.") for name in known):
            raise InputError(f"{key}, set in {source}, is a group of keys: set those below it")
        raise InputError(
            f"{key}, set in {source}, doesn't exist" + (f": did you mean {near[0]}?" if near else ": remove it")
        )
    current = known[key]
    try:
        value = CfgNode._decode_cfg_value(value)
        if isinstance(current, float) and type(value) is int:
            value = float(value)
        if value is None and current is not None or not _is_like(value, current):
            raise ValueError
        cfg.merge_from_list([key, value])
        if key in BOX_WEIGHTS and len(value) != 4 or key in NAMES and not all(isinstance(x, str) for x in value):
            raise ValueError
    except (ValueError, AssertionError, OverflowError, MemoryError, RecursionError) as error:
        shown = repr(value)
        shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"
        raise InputError(
            f"{key}, set in {source}, is {shown}; it must be a {type(current).__name__}, such as {current!r}"
        ) from error


def _is_like(value: object, current: object) -> bool:
    """Whether numbers are finite and of a size that anything has and, in lists, of the kind of those that are there."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**31
    if not isinstance(value, (list, tuple)):
        return True
    kinds = {_kind(entry) for entry in current} if isinstance(current, (list, tuple)) else set()
    kept = len(kinds) != 1 or {_kind(entry) for entry in value} <= kinds
    example = current[0] if kinds else None
    return kept and all(_is_like(entry, example) for entry in value)


def _kind(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return "list" if isinstance(value, (list, tuple)) else type(value).__name__
