"""The data sets of a classifier: those of DATASETS.CLASS_FOLDERS that TRAIN and TEST name, and their classes."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from torch.utils.data import ConcatDataset

from ...config.checks.data import BANDS
from ...config.checks.rules import require
from ...errors import InputError
from ..detection.categories import read_stated_categories
from .labelled_images import LabelledImages, list_labelled_images


def find_sources(cfg: CfgNode, names: Sequence[str]) -> list[str]:
    """Finds the folder of classes, or the CSV file, of each data set.

    Raises:
        InputError: an entry of DATASETS.CLASS_FOLDERS that isn't a pair, a name used twice, or a name that isn't there.
    """
    entries = cfg.DATASETS.CLASS_FOLDERS
    for entry in entries:
        if not (isinstance(entry, (list, tuple)) and len(entry) == 2 and all(isinstance(x, str) and x for x in entry)):
            raise InputError(f"DATASETS.CLASS_FOLDERS holds {entry!r}: make it a list of pairs, [[name, folder], ...].")
    twice = [name for name, count in Counter(name for name, _ in entries).items() if count > 1]
    if twice:
        raise InputError(f"DATASETS.CLASS_FOLDERS names {twice[0]} twice: give each data set a name of its own.")
    sources = dict(entries)
    for name in names:
        if name not in sources:
            known = f"it lists {', '.join(sources)}" if sources else "it is empty"
            raise InputError(
                f"There is no data set {name} in DATASETS.CLASS_FOLDERS ({known}): add [{name!r}, folder of classes]."
            )
    return [sources[name] for name in names]


def find_class_categories(cfg: CfgNode) -> list[list]:
    """Returns DATASETS.CATEGORIES or, if that is empty, the classes of a data set, as [[0, name], [1, name], …].

    That is the first of TRAIN, else of TEST, that is there; empty without any, so that a trained model can be used
    without its data.

    Raises:
        InputError: as for `find_sources` and `list_labelled_images`.
    """
    if stated := read_stated_categories(cfg):
        return stated
    known = {entry[0] for entry in cfg.DATASETS.CLASS_FOLDERS if isinstance(entry, (list, tuple)) and entry}
    for source in find_sources(cfg, [name for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if name in known]):
        if os.path.exists(os.path.expanduser(source)):
            classes = list_labelled_images(source, arrays=cfg.INPUT.FORMAT == BANDS).classes
            return [[label, name] for label, name in enumerate(classes)]
    return []


def list_data_set(cfg: CfgNode, name: str) -> LabelledImages:
    """Lists the images of a data set, with labels that count the classes of the model.

    Raises:
        InputError: as for `find_sources` and `list_labelled_images`; MODEL.CLASSIFIER.NUM_CLASSES is another number.
    """
    (source,) = find_sources(cfg, [name])
    classes = [str(label) for _, label in cfg.DATASETS.CATEGORIES]
    if not classes:  # no folder when the configuration was read: the error says so, unless it has come since
        classes = list_labelled_images(source, arrays=cfg.INPUT.FORMAT == BANDS).classes
    number = cfg.MODEL.CLASSIFIER.NUM_CLASSES
    must = f"be the number of classes that DATASETS.CATEGORIES or {name} has, {len(classes)}"
    require(number == len(classes), "MODEL.CLASSIFIER.NUM_CLASSES", number, must)
    return list_labelled_images(source, classes, arrays=cfg.INPUT.FORMAT == BANDS)


def list_training_images(cfg: CfgNode) -> ConcatDataset:
    """Lists the images of DATASETS.TRAIN, one data set after the other."""
    parts: list[Any] = [list_data_set(cfg, name) for name in cfg.DATASETS.TRAIN]
    return ConcatDataset(parts)
