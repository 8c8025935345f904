"""Data sets and batches of a segmentor, checked before training."""

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.utils.data import ConcatDataset

from ..agreement import find_in_all_processes, list_in_all_processes
from ..image import Decoding
from ..stream import ErrorRaisingLoader, build_share_loader, build_stream_loader
from .data_sets import list_data_set, list_training_images
from .mapper import EvaluationMapper, TrainingMapper
from .masks import count_pixels, describe_counts

logger = logging.getLogger(__name__)


def build_train_dataset(cfg: CfgNode) -> ConcatDataset:
    """Lists the images of DATASETS.TRAIN, see `SegmentedImages`, checks their masks and logs what they hold.

    Raises:
        InputError: in all processes; see `list_data_set` and `count_pixels`.
    """
    dataset = list_in_all_processes(list_training_images, cfg)
    find_in_all_processes(lambda: _check_masks(cfg, cfg.DATASETS.TRAIN, dataset.datasets))
    return dataset


def _check_masks(cfg: CfgNode, names: Sequence[str], parts: Sequence[Any]) -> None:
    """Checks all masks of data sets, `SegmentedImages` each, in the main process."""
    for name, images in zip(names, parts, strict=True) if comm.is_main_process() else ():
        ignored = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        counts = count_pixels(name, images, images.classes, ignored, Decoding.from_config(cfg))
        logger.info(describe_counts(name, counts, images.classes))


def build_train_loader(
    cfg: CfgNode, start_iteration: int = 0, dataset: Sequence | ConcatDataset | None = None
) -> ErrorRaisingLoader:
    """Builds a loader of endless batches for training, beginning with optimizer step `start_iteration`.

    Args:
        cfg: as for `build_stream_loader`
        start_iteration: counted from 0
        dataset: from `build_train_dataset`, if it is listed already

    Raises:
        InputError: a data set, or a key, that can't be used. While iterating: an image or its mask.
    """
    if dataset is None:
        dataset = build_train_dataset(cfg)
    return build_stream_loader(cfg, dataset, TrainingMapper(cfg), start_iteration)


def check_test_data(cfg: CfgNode) -> None:
    """Checks every data set of DATASETS.TEST, so that no error waits until after training.

    Raises:
        InputError: see `list_data_set` and `count_pixels`; or a key of INPUT that can't be used.
    """

    def check() -> None:
        parts = [list_data_set(cfg, name) for name in cfg.DATASETS.TEST]
        _check_masks(cfg, cfg.DATASETS.TEST, parts)
        for images in parts:
            EvaluationMapper(cfg)(images[0])

    find_in_all_processes(check)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> ErrorRaisingLoader:
    """Builds a loader of this process's share of a data set, in its order, in batches of one image.

    Raises:
        InputError: see `list_data_set`.
    """
    return build_share_loader(cfg, list_data_set(cfg, dataset_name), EvaluationMapper(cfg))
