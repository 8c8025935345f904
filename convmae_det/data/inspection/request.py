"""From what a user names to the configuration whose data are looked at."""

import os
from collections.abc import Sequence

from detectron2.config import CfgNode

from ...config.architectures import AUTOENCODER, CLASSIFIER
from ...errors import InputError
from ..configuration import read_keys
from .splits import TEST, TRAIN


def read_request(
    config_file: str, words: Sequence[str], test_words: Sequence[str], pairs: Sequence[str], classes: bool = False
) -> CfgNode:
    """Reads a configuration, and puts the data that are named into it.

    Args:
        config_file: empty: the defaults
        words: ANNOTATIONS.json FOLDER, the name of a registered data set, a folder, tar shards such as
            photos/{000..099}.tar or, with `classes`, a CSV file; empty: the data of the configuration
        test_words: the same for what will be tested on
        pairs: KEY VALUE pairs
        classes: whether these are folders of classes or CSV files

    Raises:
        InputError: a configuration that can't be read, nothing named, words that are none of these.
    """
    cfg, _ = read_keys(config_file, pairs)
    if test_words and not words:
        raise InputError("--test goes with a data set to train on: name it before --test.")
    if not words and not config_file:
        raise InputError(
            "There is nothing to look at: name an annotation file and its folder of images, or --config-file."
        )
    if words:
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), ()
        kinds = {_put(cfg, part, role, classes) for part, role in ((words, TRAIN), (test_words, TEST)) if part}
        if len(kinds) > 1:
            raise InputError("DATASET and --test are of different kinds: name two of the same.")
        cfg.MODEL.META_ARCHITECTURE = kinds.pop() or cfg.MODEL.META_ARCHITECTURE
    return cfg


def _put(cfg: CfgNode, words: Sequence[str], role: str, classes: bool) -> str:
    """Puts a data set into DATASETS. Returns the META_ARCHITECTURE that it is for; empty: a detector's."""
    first, last, names = words[0], words[-1], f"DATASETS.{role.upper()}"
    if len(words) > 2:
        raise InputError(f"{' '.join(words)} is more than an annotation file and a folder of images: name these two.")
    key, entry, kind = "", [role, *words], ""
    if classes:
        key, kind = "DATASETS.CLASS_FOLDERS", CLASSIFIER
    elif len(words) == 2:
        key = "DATASETS.COCO_FORMAT"
    elif first.endswith(".tar"):
        key, kind = "DATASETS.SHARDS", AUTOENCODER
    elif os.path.isdir(first):
        key, kind = "DATASETS.IMAGE_FOLDERS", AUTOENCODER
    elif os.path.isfile(first):
        raise InputError(f"{first} is an annotation file without a folder of images: name that, too.")
    else:
        entry = [first]
    if classes and len(words) == 2:
        raise InputError(f"{first} {last} are two: with --classes, name one folder of classes, or a CSV file.")
    node = cfg.DATASETS
    if key:
        name = key.rpartition(".")[2]
        node[name] = [*node[name], entry]
    node[names.rpartition(".")[2]] = (entry[0],)
    return kind
