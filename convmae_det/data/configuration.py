"""A configuration together with what it takes from its data sets: the classes."""

from collections.abc import Sequence

from detectron2.config import CfgNode, get_cfg

from ..config.architectures import CLASS_KEYS
from ..config.defaults import add_convmae_config
from ..config.device import available_device
from ..config.keys import set_keys
from ..data.detection.categories import detector_categories
from ..data.detection.coco_format import register_coco_format


def read_config(config_file: str, pairs: Sequence[str] = ()) -> CfgNode:
    """The defaults, then `config_file` if it is not empty, then KEY VALUE `pairs`; MODEL.DEVICE as it is there.

    The data sets of DATASETS.COCO_FORMAT are registered. DATASETS.CATEGORIES and, unless it is set, the detector's
    number of classes are those of the data sets.

    Args:
        config_file: a path, or the name of one of the project's own, such as convmae_det://mask_rcnn_convmae_b.yaml

    Raises:
        InputError: a file that can't be read, a key that doesn't exist, a value of the wrong type, or data sets that
            are missing or don't go together.
    """
    cfg = get_cfg()
    add_convmae_config(cfg)
    _set_classes(cfg, set_keys(cfg, config_file, pairs))
    return cfg


def _set_classes(cfg: CfgNode, given: set[str]) -> None:
    """From the data sets to the detector's classes. `given`: the keys that the user has set."""
    key = CLASS_KEYS.get(cfg.MODEL.META_ARCHITECTURE)
    # Who knows the classes, or needs none, may have a use for the model without the data that it was trained on.
    register_coco_format(cfg.DATASETS.COCO_FORMAT, missing_ok=bool(cfg.DATASETS.CATEGORIES) or key is None)
    if key is None:
        return
    cfg.DATASETS.CATEGORIES = detector_categories(cfg)
    if cfg.DATASETS.CATEGORIES and key not in given:
        cfg.merge_from_list([key, len(cfg.DATASETS.CATEGORIES)])


def read_tool_config(config_file: str, pairs: Sequence[str] = (), device: str = "") -> CfgNode:
    """:func:`read_config` for a program of one process: frozen, on `device` or, if that is empty, on MODEL.DEVICE."""
    cfg = read_config(config_file, pairs)
    cfg.MODEL.DEVICE = available_device(device or cfg.MODEL.DEVICE)
    cfg.freeze()
    return cfg
