"""What a key of DATASETS lists, as data sets of Detectron2."""

import functools
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import InputError

Source = TypeVar("Source", bound=Hashable)


def register_sources(
    key: str, attribute: str, sources: Iterable[tuple[str, Source]], load: Callable[[Source], list[dict]]
) -> None:
    """Registers data sets with Detectron2, whose metadata say where they come from.

    Args:
        key: that lists them, for errors
        attribute: of their metadata, for the source
        sources: pairs of name and source. A name that was registered for another source of this key now stands for
            the new one.
        load: makes a list of images in Detectron2's format of a source

    Raises:
        InputError: a name is used twice, or by another data set.
    """
    names = set()
    for name, source in sources:
        if name in names:
            raise InputError(f"{key} names {name} twice: give each of its data sets a name of its own.")
        names.add(name)
        registered = MetadataCatalog.get(name).get(attribute)
        if name in DatasetCatalog and registered is None:
            raise InputError(f"The name {name} in {key} belongs to another data set: choose another.")
        if name not in DatasetCatalog or registered != source:
            DatasetCatalog.pop(name, None)
            MetadataCatalog.remove(name)  # its attributes can't be changed
            DatasetCatalog.register(name, functools.partial(load, source))
            MetadataCatalog.get(name).set(**{attribute: source})
