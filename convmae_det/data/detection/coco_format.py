"""The user's own data sets in COCO's format, named in the configuration."""

import functools
import logging
import os
from collections.abc import Iterable, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ...errors import InputError
from .categories import read_categories

# Hides a warning that ids are mapped to the numbers of classes: predictions are mapped back.
logging.getLogger("detectron2.data.datasets.coco").addFilter(
    lambda record: "apply a mapping" not in record.getMessage()
)


def register_coco_format(
    entries: Iterable[Sequence[str]], *, only: Sequence[str] | None = None, missing_ok: bool = False
) -> None:
    """Registers data sets with Detectron2, with the names of their classes and the ids of their categories.

    Registering again costs nothing; an entry whose paths, or whose file, have changed replaces the earlier one.

    Args:
        entries: of name, annotation file and folder of images, as in DATASETS.COCO_FORMAT
        only: register entries of these names alone; None for all
        missing_ok: ignore entries whose file or folder doesn't exist

    Raises:
        InputError: an entry that isn't such a triple, no such file or folder, or a name used twice or by another data
            set. The content of the file is checked when the data set is loaded.
    """
    names = set()
    for entry in entries:
        name, json_file, image_root = _triple(entry)
        if name in names:
            raise InputError(f"DATASETS.COCO_FORMAT names {name} twice: give each data set a name of its own.")
        names.add(name)
        if name in DatasetCatalog and not MetadataCatalog.get(name).get("coco_format"):
            raise InputError(f"The name {name} in DATASETS.COCO_FORMAT belongs to another data set: choose another.")
        if only is not None and name not in only:
            continue
        missing = None if os.path.isfile(json_file) else f"{entry[1]}, the annotation file"
        missing = missing or (None if os.path.isdir(image_root) else f"{entry[2]}, the folder of images")
        if not missing:
            _register(name, json_file, image_root)
        elif not missing_ok:
            raise InputError(f"{missing} of {name} in DATASETS.COCO_FORMAT, doesn't exist: correct it.")


def _triple(entry: object) -> tuple[str, str, str]:
    """Checks an entry; returns its name and absolute paths."""
    if not (isinstance(entry, (list, tuple)) and len(entry) == 3 and all(isinstance(x, str) and x for x in entry)):
        raise InputError(
            f"DATASETS.COCO_FORMAT holds {entry!r}: make it a list of triples, [[name, annotations.json, image "
            "folder], ...]."
        )
    return entry[0], *(os.path.abspath(os.path.expanduser(path)) for path in entry[1:])


def _register(name: str, json_file: str, image_root: str) -> None:
    state = os.stat(json_file)
    source = json_file, image_root, state.st_mtime_ns, state.st_size
    if name in DatasetCatalog and MetadataCatalog.get(name).coco_format == source:
        return
    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)  # its attributes can't be changed
    try:
        categories = read_categories(json_file)
    except OSError as error:
        raise InputError(f"{json_file} can't be read ({error.strerror}): make it readable.") from error
    DatasetCatalog.register(name, functools.partial(load_coco_json, json_file, image_root, name))
    metadata = MetadataCatalog.get(name)
    metadata.set(json_file=json_file, image_root=image_root, evaluator_type="coco", coco_format=source)
    if categories:
        metadata.thing_classes = [name for _, name in categories]
        metadata.thing_dataset_id_to_contiguous_id = {number: i for i, (number, _) in enumerate(categories)}
