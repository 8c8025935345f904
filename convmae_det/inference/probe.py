"""Probes: how well the features of a frozen encoder tell the classes of a data set apart."""

import logging
from typing import Any, NamedTuple

from ..data.classification.labelled_images import LabelledImages, list_labelled_images
from ..errors import InputError
from ..evaluation.probe import (
    classify_by_neighbours,
    classify_linearly,
    compute_accuracy,
    compute_effective_rank,
)
from .pooled_features import FeaturePooler, PooledFeatures

logger = logging.getLogger(__name__)


class ProbeData(NamedTuple):
    """A data set in two parts, with the classes of the first."""

    train: LabelledImages
    test: LabelledImages


def list_probe_data(train: str, test: str, arrays: bool = False) -> ProbeData:
    """Lists both parts, and warns of images that are in both.

    The arguments, and what is raised, are those of `list_labelled_images`.
    """
    images = list_labelled_images(train, arrays=arrays)
    data = ProbeData(images, list_labelled_images(test, images.classes, arrays))
    known = {image["file_name"] for image in data.train}
    if shared := sum(image["file_name"] in known for image in data.test):
        logger.warning(
            f"{shared:,} of {len(data.test):,} images of {test} are in {train}, too, and say nothing of others"
        )
    return data


def probe_encoder(pooler: FeaturePooler, data: ProbeData) -> dict[str, Any]:
    """Computes what `convmae-det probe` reports.

    Returns:
        "knn_top1" and "linear_top1" in percent, "linear_penalty", "rank" of the training part's features, "classes",
        "images": how many of "train" and "test" could be read, and "skipped": (file, reason) of the others

    Raises:
        InputError: no image of a part can be read.
    """
    pooled = {}
    for name, images in data._asdict().items():
        pooled[name] = pooler.pool(images, range(len(images)), f"Features of the {name} part")
        check_any_read(pooled[name])
    features = [part.features.to(pooler.device) for part in pooled.values()]
    labels = [images.labels[part.indices].to(pooler.device) for images, part in zip(data, pooled.values(), strict=True)]
    arguments = features[0], labels[0], features[1], len(data.train.classes)
    linear, penalty = classify_linearly(*arguments)
    return {
        "knn_top1": compute_accuracy(classify_by_neighbours(*arguments), labels[1]),
        "linear_top1": compute_accuracy(linear, labels[1]),
        "linear_penalty": penalty,
        "rank": compute_effective_rank(features[0]),
        "classes": data.train.classes,
        "images": {name: len(part.indices) for name, part in pooled.items()},
        "skipped": [skipped for part in pooled.values() for skipped in part.skipped],
    }


def check_any_read(part: PooledFeatures) -> None:
    """Checks that there is an image that could be read.

    Raises:
        InputError: there is none.
    """
    if not len(part.indices):
        name, reason = part.skipped[0]
        raise InputError(f"none of {len(part.skipped):,} images can be read; the first, {name}, {reason}")
