"""Sets keys of a configuration from a file and from KEY VALUE pairs: they must exist, and values have their type."""

import difflib
import itertools
import math
import os
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from yacs.config import CfgNode

from ..errors import InputError
from .precedence import UNSET, find_replaced
from .reading import flatten_keys, read_yaml

GROUPS = ("MODEL.", "INPUT.", "DATASETS.", "DATALOADER.", "SOLVER.", "TEST.")  # how keys begin
BOX_WEIGHTS = ("MODEL.RPN.BBOX_REG_WEIGHTS", "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS")  # of x, y, width and height
AUTO = -1  # what the word auto stands for in these keys, whose values are whole numbers
AUTO_KEYS = ("SOLVER.IMS_PER_BATCH", "SOLVER.MAX_IMS_PER_PASS", "DATALOADER.NUM_WORKERS", "TEST.TILE")
NAMES = ("DATASETS.TRAIN", "DATASETS.TEST")
SWITCHES = ("MODEL.COMPILE",)  # True, False or auto
SIZES = ("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE",)  # a whole number, or two: height and width
MISSING = object()  # in place of a value, which may be None
MAX_SHOWN = 200  # characters of a value in an error


def split_pairs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits words into KEY VALUE pairs and others. The name of an existing file is never a key."""
    pairs, others = [], []
    remaining = iter(words)
    for word in remaining:
        if word.startswith(GROUPS) and not os.path.exists(word):
            pairs += [word, *itertools.islice(remaining, 1)]
        else:
            others.append(word)
    return pairs, others


def set_keys(cfg: CfgNode, config_file: str, pairs: Sequence[str], source: str = "the command line") -> set[str]:
    """Sets the keys of a file, unless `config_file` is empty, and then those of KEY VALUE `pairs`.

    Of several keys for the same thing, such as SOLVER.MAX_EPOCHS and SOLVER.MAX_ITER, the pairs' wins over the file's.

    Args:
        cfg: changed in place
        config_file: as for :func:`.reading.read_yaml`, or empty
        pairs: keys and values, alternating
        source: where the pairs come from, which the user would have to correct

    Returns:
        The keys that were set, and that nothing later replaced.

    Raises:
        InputError: a file that can't be read, a key that doesn't exist, or a value of the wrong type.
    """
    if len(pairs) % 2:
        raise InputError(f"{source} ends in KEY VALUE pairs, but {' '.join(pairs)} is not an even number of words")
    file = read_yaml(config_file) if config_file else ()
    given: set[str] = set()
    for where, settings in ((config_file, file), (source, zip(pairs[::2], pairs[1::2], strict=True))):
        layer = {}
        for key, value in settings:
            set_key(cfg, key, value, where)
            layer[key] = attrgetter(key)(cfg)
        replaced = find_replaced(layer)
        cfg.merge_from_list([word for key in replaced & UNSET.keys() for word in (key, UNSET[key])])
        given = given - replaced | layer.keys()
    return given


def set_key(cfg: CfgNode, key: str, value: Any, source: str) -> None:
    """Sets the dotted `key`, which must exist, to a value of its type or to text that stands for one.

    Args:
        cfg: changed in place
        key: such as SOLVER.BASE_LR
        value: of the key's type, or text
        source: the file or the command line that the user would have to correct

    Raises:
        InputError: no such key, or a value of the wrong type.
    """
    current = _find_value(cfg, key, source)
    try:
        value = _decode(AUTO if value == "auto" and key in AUTO_KEYS else value, current)
        if (value is None and current is not None) or not _is_like(value, current):
            raise ValueError
        if key in SWITCHES or (
            key in SIZES and (type(value) is int or isinstance(value, (list, tuple)))
        ):  # each after any other; what is none of them is refused where it is used
            group, _, name = key.rpartition(".")
            attrgetter(group)(cfg)[name] = value
        else:
            cfg.merge_from_list([key, value])
        if (key in BOX_WEIGHTS and len(value) != 4) or (key in NAMES and not all(isinstance(x, str) for x in value)):
            raise ValueError
    except (ValueError, AssertionError, OverflowError, MemoryError, RecursionError) as error:
        shown = repr(value)
        shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"
        raise InputError(
            f"{key}, set in {source}, is {shown}; it must be a {type(current).__name__}, such as {current!r}"
        ) from error


def _find_value(cfg: CfgNode, key: str, source: str) -> Any:
    """Finds the value of a key, without looking at the others, of which there are some 300, unless it is missing."""
    value: Any = cfg
    for name in key.split("."):
        value = value.get(name, MISSING) if isinstance(value, dict) else MISSING
    if value is not MISSING and not isinstance(value, dict):
        return value
    known = [name for name, _ in flatten_keys(cfg)]
    if any(name.startswith(f"{key}.") for name in known):
        raise InputError(f"{key}, set in {source}, is a group of keys: set those below it")
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    raise InputError(
        f"{key}, set in {source}, doesn't exist" + (f": did you mean {near[0]}?" if near else ": remove it")
    )


def _decode(text: Any, current: Any) -> Any:
    """Decodes text; an int becomes a float where the current value is one."""
    value = CfgNode._decode_cfg_value(text)
    return float(value) if isinstance(current, float) and type(value) is int else value


def _is_like(value: Any, current: Any) -> bool:
    """Whether numbers are finite and of reasonable size and, in lists, of the kind of the current ones."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**31
    if not isinstance(value, (list, tuple)):
        return True
    kinds = {_find_kind(entry) for entry in current} if isinstance(current, (list, tuple)) else set()
    kept = len(kinds) != 1 or {_find_kind(entry) for entry in value} <= kinds
    example = current[0] if kinds else None
    return kept and all(_is_like(entry, example) for entry in value)


def _find_kind(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return "list" if isinstance(value, (list, tuple)) else type(value).__name__
