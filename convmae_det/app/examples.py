"""Images to begin with: some of those that the network was, or would be, evaluated on."""

from collections.abc import Sequence

from detectron2.config import CfgNode

from ..config.architectures import is_autoencoder, is_classifier
from ..data.classification.data_sets import list_data_set
from ..data.detection.catalog import list_image_names
from ..data.survey import spread_indices
from ..errors import InputError

NUMBER = 8


def find_examples(cfg: CfgNode) -> list[str]:
    """Finds the paths of some images of DATASETS.TEST, for pretraining of DATASETS.TRAIN; none if they are missing."""
    names = cfg.DATASETS.TRAIN if is_autoencoder(cfg) else cfg.DATASETS.TEST
    try:
        found = _list_images(cfg, names[0]) if names else []
    except InputError:  # the data set stayed where the network was trained
        return []
    return [found[index] for index in spread_indices(len(found), NUMBER)] if found else []


def _list_images(cfg: CfgNode, name: str) -> Sequence[str]:
    if is_classifier(cfg):
        images = list_data_set(cfg, name)
        return [images[index]["file_name"] for index in spread_indices(len(images), NUMBER)]
    return list_image_names(name, cfg)
