"""The data sets of a segmentor: those of DATASETS.SEMANTIC and Detectron2's that TRAIN and TEST name; their classes."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch.utils.data import ConcatDataset

from ...config.checks.data import BANDS
from ...config.checks.rules import require
from ...errors import InputError, shorten_error
from ...files import describe_missing_folder
from ..detection.categories import read_stated_categories
from ..pretraining.folders import ImageFiles, list_images
from ..shapes import register_shapes

register_shapes()  # when imported, as Detectron2's own data sets

FORM = "[[name, image folder, mask folder, classes], ...], classes being a list of names or a file with one a line"


class SegmentedImages(Sequence[dict]):
    """Images in Detectron2's format: item i is {"file_name": str, "image_id": i, "sem_seg_file_name": str}.

    Attributes:
        classes: their names, by the number in the masks
    """

    def __init__(self, images: Sequence[str], masks: Sequence[str], classes: Sequence[str]):
        self.images, self.masks = ImageFiles.from_names(images), ImageFiles.from_names(masks)
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        return self.images[index] | {"sem_seg_file_name": self.masks[index]["file_name"]}

    def digest(self) -> str:
        """Computes a hash of the files, their order and the classes."""
        parts = [self.images.digest(), self.masks.digest(), *self.classes]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_entries(cfg: CfgNode) -> dict[str, tuple[str, str, list[str]]]:
    """Reads DATASETS.SEMANTIC: image folder, mask folder and classes, by name.

    Raises:
        InputError: an entry of another form, a name used twice, or classes that can't be read.
    """
    entries = cfg.DATASETS.SEMANTIC
    for entry in entries:
        usable = isinstance(entry, (list, tuple)) and len(entry) == 4 and isinstance(entry[3], (str, list, tuple))
        if not (usable and all(isinstance(word, str) and word for word in entry[:3])):
            raise InputError(f"DATASETS.SEMANTIC holds {entry!r}: make it {FORM}.")
    twice = [name for name, count in Counter(entry[0] for entry in entries).items() if count > 1]
    if twice:
        raise InputError(f"DATASETS.SEMANTIC names {twice[0]} twice: give each data set a name of its own.")
    return {name: (images, masks, read_names(name, classes)) for name, images, masks, classes in entries}


def read_names(name: str, classes: str | Sequence) -> list[str]:
    """Returns the names of the classes of a data set in DATASETS.SEMANTIC, listed or in a file.

    Raises:
        InputError: the file can't be read, or they are no names of two classes or more, each another.
    """
    if isinstance(classes, str):
        try:
            with open(os.path.expanduser(classes), encoding="utf-8-sig") as file:  # editors may begin it with a mark
                classes = [line.strip() for line in file if line.strip()]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
            raise InputError(
                f"{classes}, the classes of {name} in DATASETS.SEMANTIC, can't be read ({reason}): name a file with a "
                "class a line."
            ) from error
    if others := [label for label in classes if isinstance(label, bool) or not isinstance(label, (str, int))]:
        raise InputError(
            f"The classes of {name} in DATASETS.SEMANTIC hold {others[0]!r}, which is no name: put names that YAML "
            "takes for something else in quotes."
        )
    names = [str(label) for label in classes]
    if len(names) < 2 or len(set(names)) < len(names) or not all(label.isprintable() and label for label in names):
        raise InputError(
            f"The classes of {name} in DATASETS.SEMANTIC are {names}: list at least two different names, in the order "
            "of the numbers in the masks."
        )
    return names


def find_segmentor_categories(cfg: CfgNode) -> list[list]:
    """Returns DATASETS.CATEGORIES or, if that is empty, the classes of a data set, as [[0, name], [1, name], …].

    That is the first of TRAIN, else of TEST, whose classes are known; empty without any.

    Raises:
        InputError: as for :func:`read_entries`.
    """
    if stated := read_stated_categories(cfg):
        return stated
    entries = read_entries(cfg)
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if classes := _find_classes(name, entries):
            return [[number, label] for number, label in enumerate(classes)]
    return []


def _find_classes(name: str, entries: dict[str, tuple[str, str, list[str]]]) -> list[str]:
    if name in entries:
        return entries[name][2]
    return list(MetadataCatalog.get(name).get("stuff_classes") or ()) if name in DatasetCatalog else []


def list_data_set(cfg: CfgNode, name: str) -> SegmentedImages:
    """Lists the images of a data set and their masks.

    Raises:
        InputError: the data set is not known, a folder or a mask is missing, or its classes are not the model's.
    """
    entries = read_entries(cfg)
    if name in entries:
        images, masks, classes = entries[name]
        found = _pair_files(name, images, masks, classes, arrays=cfg.INPUT.FORMAT == BANDS)
    elif name in DatasetCatalog:
        found = _list_registered(name)
    else:
        known = f"DATASETS.SEMANTIC lists {', '.join(entries)}" if entries else "DATASETS.SEMANTIC is empty"
        raise InputError(f"There is no data set {name} ({known}): name one in DATASETS.SEMANTIC, {FORM}.")
    known = [str(label) for _, label in cfg.DATASETS.CATEGORIES] or found.classes
    if found.classes != known:
        raise InputError(
            f"The classes of {name} are {', '.join(found.classes)}, those of the model {', '.join(known)}: name data "
            "sets of the same classes, in the same order."
        )
    number = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    must = f"be the number of classes that DATASETS.CATEGORIES or {name} has, {len(known)}"
    require(number == len(known), "MODEL.SEM_SEG_HEAD.NUM_CLASSES", number, must)
    return found


def _pair_files(name: str, images: str, masks: str, classes: Sequence[str], arrays: bool) -> SegmentedImages:
    """Finds for each image the mask of the same name, its suffix aside, at the same place in its folder."""
    roots = []
    for what, folder in (("images", images), ("masks", masks)):
        roots.append(os.path.realpath(os.path.expanduser(folder)))
        if problem := describe_missing_folder(roots[-1]):
            raise InputError(f"{folder}, the folder of {what} of {name} in DATASETS.SEMANTIC, {problem}.")
    found = [image["file_name"] for image in list_images(roots[0], arrays)]
    by_key: dict[str, str] = {}
    for mask in list_images(roots[1]):
        path = mask["file_name"]
        other = by_key.setdefault(_make_key(path, roots[1]), path)
        if other != path:
            raise InputError(f"{other} and {path} are masks of the same name: keep one of them.")
    paired = [by_key.get(_make_key(path, roots[0])) for path in found]
    missing = [path for path, mask in zip(found, paired, strict=True) if mask is None]
    if missing:
        wanted = os.path.join(roots[1], _make_key(missing[0], roots[0]) + ".png")
        raise InputError(
            f"{missing[0]} has no mask: there is no {wanted} ({len(missing):,} of {len(found):,} images have none); "
            "add it, or take the image out."
        )
    owners: dict[str | None, str] = {}
    for path, mask in zip(found, paired, strict=True):
        if (other := owners.setdefault(mask, path)) != path:
            raise InputError(
                f"{other} and {path} have the same mask, {mask}: keep one of them, or name them differently."
            )
    return SegmentedImages(found, [mask for mask in paired if mask is not None], classes)


def _make_key(path: str, root: str) -> str:
    return os.path.splitext(os.path.relpath(path, root))[0]


def _list_registered(name: str) -> SegmentedImages:
    """Lists a data set that is registered with Detectron2, such as ade20k_sem_seg_train."""
    classes = list(MetadataCatalog.get(name).get("stuff_classes") or ())
    try:
        dicts = DatasetCatalog.get(name)
    except Exception as error:  # of whatever function is registered
        raise InputError(
            f"The data set {name} can't be loaded ({shorten_error(error)}): prepare it as Detectron2's datasets/README "
            "says, and set DETECTRON2_DATASETS to its folder."
        ) from error
    if not classes or not all("sem_seg_file_name" in image for image in dicts):
        raise InputError(f"The data set {name} has no masks with named classes: name one for segmentation.")
    return SegmentedImages(
        [image["file_name"] for image in dicts], [image["sem_seg_file_name"] for image in dicts], classes
    )


def list_training_images(cfg: CfgNode) -> ConcatDataset:
    """Lists the images of DATASETS.TRAIN, one data set after the other."""
    parts: list[Any] = [list_data_set(cfg, name) for name in cfg.DATASETS.TRAIN]
    return ConcatDataset(parts)
