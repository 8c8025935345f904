"""What rules are made of: the sentence of their error, and kinds of values."""

import itertools
import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from yacs.config import CfgNode

from ...errors import InputError


def require(holds: object, key: str, value: object, must: str) -> None:
    """Checks a rule.

    Args:
        holds: whether the rule holds
        key: the key or option that the rule is about
        value: its value
        must: the rule, as the end of the sentence "it must …"

    Raises:
        InputError: the rule doesn't hold.
    """
    if not holds:
        raise InputError(f"{key} is {value!r}; it must {must}")


def check_at_least(cfg: CfgNode, key: str, least: float, why: str = "") -> None:
    """Checks that the value of `key` is a number of at least `least`; `why` ends the sentence of the error."""
    value = attrgetter(key)(cfg)
    require(is_number(value) and value >= least, key, value, f"be at least {least}{why}")


def check_above(cfg: CfgNode, key: str, bound: float, why: str = "") -> None:
    """Checks that the value of `key` is a number above `bound`; `why` ends the sentence of the error."""
    value = attrgetter(key)(cfg)
    require(is_number(value) and value > bound, key, value, f"be above {bound}{why}")


def check_one_of(cfg: CfgNode, key: str, choices: Sequence[str]) -> None:
    """Checks that the value of `key` is one of `choices`."""
    value = attrgetter(key)(cfg)
    require(value in choices, key, value, f"be one of {', '.join(choices)}")


def is_number(value: object) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def are_numbers(values: object, count: int | None = None) -> bool:
    """Whether `values` is a sequence of finite numbers, `count` of them."""
    if not isinstance(values, (list, tuple)) or count not in (None, len(values)):
        return False
    return all(map(is_number, values))


def is_rising(values: Sequence[float]) -> bool:
    """Whether each value is above the one before."""
    return all(low < high for low, high in itertools.pairwise(values))


def is_same(value: Any, other: Any) -> bool:
    """Whether two values of a key are equal; a list and a tuple may be."""
    if isinstance(value, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(value) == len(other) and all(map(is_same, value, other))
    return value == other
