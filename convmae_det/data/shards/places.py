"""From the words of DATASETS.SHARDS to tar files on this machine."""

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from ...files import find_cache_folder
from .copies import copy_shards
from .store import ask, hide_secrets, is_remote, open_store

GROUP = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
MOST = 10**6  # of one group


class Place(NamedTuple):
    """A shard.

    Attributes:
        name: what it is called where people read of it: its path, or its address without what may be secret
        path: of the file on this machine
    """

    name: str
    path: str


def locate_shards(name: str, patterns: Sequence[str], cache: str) -> list[Place]:
    """Finds the shards of a data set, and copies those that lie elsewhere to this machine, unless they are there.

    Args:
        name: of the data set, for errors
        patterns: paths or addresses, with braces, or a * in the place of any letters
        cache: folder for the copies; empty: one in the user's cache

    Raises:
        InputError: a shard that doesn't exist or can't be read, a pattern that stands for none, two equal addresses,
            or no space for the copies.
    """
    addresses = [address for pattern in patterns for address in _expand(name, pattern)]
    twins = [address for address, count in Counter(addresses).items() if count > 1]
    if twins:
        raise InputError(f"DATASETS.SHARDS names {hide_secrets(twins[0])} twice for {name}: name each shard once.")
    remote = [address for address in addresses if is_remote(address)]
    root = Path(cache).expanduser().absolute() if cache else find_cache_folder() / "shards"
    paths = dict(zip(remote, copy_shards(name, remote, root), strict=True))
    return [Place(hide_secrets(address), paths.get(address, address)) for address in addresses]


def _expand(name: str, pattern: str) -> list[str]:
    """Lists what a pattern stands for; of local shards the absolute paths, which exist."""
    found = []
    for address in expand_braces(pattern):
        if not is_remote(address):
            address = os.path.abspath(os.path.expanduser(address))
        matches = _find_matches(address) if "*" in address else [address]
        if not matches:
            raise InputError(f"{hide_secrets(address)}, of {name} in DATASETS.SHARDS, is no file: correct it.")
        found += matches
    missing = [address for address in found if not is_remote(address) and not os.path.isfile(address)]
    if missing:
        problem = "is a folder: name the files in it" if os.path.isdir(missing[0]) else "doesn't exist: correct it"
        others = f" ({len(missing):,} of {len(found):,} are missing)" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}, a shard of {name} in DATASETS.SHARDS, {problem}{others}.")
    return found


def _find_matches(address: str) -> list[str]:
    """Lists the files that an address with * stands for, sorted."""
    if not is_remote(address):
        return sorted(glob.glob(re.sub(r"([\[?])", r"[\1]", address)))

    def find() -> list[str]:
        store, path = open_store(address)
        return sorted(map(store.unstrip_protocol, store.glob(path)))

    return ask(hide_secrets(address), find)


def expand_braces(pattern: str) -> list[str]:
    """Expands numbers, {000..099}, and alternatives, {a,b}, as a shell does; other braces stay.

    Raises:
        InputError: more than MOST numbers.
    """
    group = GROUP.search(pattern)
    if group is None:
        return [pattern]
    first, last, words = group.groups()
    values = words.split(",") if words is not None else _count(pattern, first, last)
    rest = expand_braces(pattern[group.end() :])
    return [pattern[: group.start()] + value + end for value in values for end in rest]


def _count(pattern: str, first: str, last: str) -> list[str]:
    """Counts from one number to another, up or down, with zeros before them if either has some."""
    low, high = int(first), int(last)
    if abs(high - low) >= MOST:
        raise InputError(f"DATASETS.SHARDS holds {pattern}, more than {MOST:,} shards: correct its numbers.")
    padded = any(number.startswith("0") and len(number) > 1 for number in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return [f"{number:0{width}}" for number in range(low, high + 1)] or [
        f"{number:0{width}}" for number in range(low, high - 1, -1)
    ]
