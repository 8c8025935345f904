"""A configuration together with the classes of its data sets."""

from collections.abc import Sequence

from detectron2.config import CfgNode, get_cfg

from ..config.architectures import CLASS_KEYS, is_classifier, is_panoptic, is_segmentor
from ..config.defaults import add_convmae_config
from ..config.device import find_available_device
from ..config.keys import AUTO, set_keys
from .classification.data_sets import find_class_categories
from .detection.categories import find_detector_categories, find_stuff_categories
from .detection.coco_format import register_coco_format
from .detection.panoptic_format import adopt_panoptic, register_panoptic
from .segmentation.data_sets import find_segmentor_categories

STUFF_KEY = "MODEL.SEM_SEG_HEAD.NUM_CLASSES"


def read_config(config_file: str, pairs: Sequence[str] = (), source: str = "the command line") -> CfgNode:
    """Reads a configuration: the defaults, then `config_file`, then KEY VALUE `pairs`. MODEL.DEVICE is not resolved.

    DATALOADER.NUM_WORKERS is auto by itself: what is read here goes to our own loaders, which take it.
    The data sets of DATASETS.COCO_FORMAT, and of a panoptic FPN those of DATASETS.PANOPTIC, are registered.
    DATASETS.CATEGORIES and, unless it is set, the model's number of classes are taken from the data sets.

    Args:
        config_file: a path, or the name of one of the project's own, such as convmae_det://mask_rcnn_convmae_b.yaml;
            empty: none
        pairs: keys and values, alternating
        source: where the pairs come from, for errors

    Raises:
        InputError: a file that can't be read, a key that doesn't exist, a value of the wrong type, or data sets that
            are missing or don't go together.
    """
    cfg, given = read_keys(config_file, pairs, source)
    _set_classes(cfg, given)
    return cfg


def read_keys(
    config_file: str, pairs: Sequence[str] = (), source: str = "the command line"
) -> tuple[CfgNode, set[str]]:
    """Reads a configuration as :func:`read_config` does, but looks at no data; also returns the keys that were set."""
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.DATALOADER.NUM_WORKERS = AUTO
    return cfg, set_keys(cfg, config_file, pairs, source)


def _set_classes(cfg: CfgNode, given: set[str]) -> None:
    """Sets the model's classes from the data sets. `given` holds the keys that the user has set."""
    key = CLASS_KEYS.get(cfg.MODEL.META_ARCHITECTURE)
    # Where the classes are known, or none are needed, the model can be used without its training data.
    missing_ok = bool(cfg.DATASETS.CATEGORIES) or key is None
    register_coco_format(cfg.DATASETS.COCO_FORMAT, missing_ok=missing_ok)
    if is_panoptic(cfg):
        register_panoptic(cfg.DATASETS.PANOPTIC, missing_ok=missing_ok)
        adopt_panoptic([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
        cfg.DATASETS.STUFF_CATEGORIES = find_stuff_categories(cfg)
        if cfg.DATASETS.STUFF_CATEGORIES and STUFF_KEY not in given:
            cfg.merge_from_list([STUFF_KEY, len(cfg.DATASETS.STUFF_CATEGORIES) + 1])  # class 0 is all things
    if key is None:
        return
    cfg.DATASETS.CATEGORIES = _find_categories(cfg)
    if cfg.DATASETS.CATEGORIES and key not in given:
        cfg.merge_from_list([key, len(cfg.DATASETS.CATEGORIES)])


def _find_categories(cfg: CfgNode) -> list[list]:
    if is_classifier(cfg):
        return find_class_categories(cfg)
    return find_segmentor_categories(cfg) if is_segmentor(cfg) else find_detector_categories(cfg)


def read_tool_config(
    config_file: str, pairs: Sequence[str] = (), device: str = "", source: str = "the command line"
) -> CfgNode:
    """Reads a configuration for a program with one process: frozen, with a device that this machine has.

    Args:
        config_file: as for :func:`read_config`
        pairs: as for :func:`read_config`
        device: replaces MODEL.DEVICE unless it is empty
        source: as for :func:`read_config`

    Raises:
        InputError: see :func:`read_config` and :func:`find_available_device`.
    """
    cfg = read_config(config_file, pairs, source)
    cfg.MODEL.DEVICE = find_available_device(device or cfg.MODEL.DEVICE)
    cfg.freeze()
    return cfg
