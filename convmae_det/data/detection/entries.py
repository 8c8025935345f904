"""Entries of a key that names data sets by their files, such as DATASETS.COCO_FORMAT: which of them to register."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import InputError


class Form(NamedTuple):
    """How the entries of a key look.

    Attributes:
        key: of the configuration
        length: of an entry: its name, and paths
        said: the form, for errors
        mark: that metadata of data sets have which the key has registered
        find_missing: gets an entry and its absolute paths; returns what is missing, and how, or None
    """

    key: str
    length: int
    said: str
    mark: str
    find_missing: Callable[..., tuple[str, str] | None]


def choose_entries(
    entries: Iterable[Sequence[str]], form: Form, only: Sequence[str] | None, missing_ok: bool
) -> Iterator[tuple[str, ...]]:
    """Checks entries, and chooses those to register.

    Args:
        entries: as in the configuration
        form: of the key
        only: names to choose from; None for all
        missing_ok: ignore entries of which something is missing

    Yields:
        name and absolute paths

    Raises:
        InputError: an entry of another form, something missing, or a name used twice or by another data set.
    """
    names = set()
    for entry in entries:
        name, *paths = _check_entry(entry, form)
        if name in names:
            raise InputError(f"{form.key} names {name} twice: give each data set a name of its own.")
        names.add(name)
        if name in DatasetCatalog and not MetadataCatalog.get(name).get(form.mark):
            raise InputError(f"The name {name} in {form.key} belongs to another data set: choose another.")
        if only is not None and name not in only:
            continue
        missing = form.find_missing(entry, *paths)
        if missing is None:
            yield name, *paths
        elif not missing_ok:
            raise InputError(f"{missing[0]} of {name} in {form.key}, {missing[1]}.")


def _check_entry(entry: object, form: Form) -> tuple[str, ...]:
    """Checks an entry; returns its name and absolute paths."""
    fits = isinstance(entry, (list, tuple)) and len(entry) == form.length
    if not (fits and all(isinstance(part, str) and part for part in entry)):
        raise InputError(f"{form.key} holds {entry!r}: make it {form.said}.")
    return entry[0], *(os.path.abspath(os.path.expanduser(path)) for path in entry[1:])
