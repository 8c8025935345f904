"""Data sets and batches for pretraining, from folders, tar shards or any registered data sets."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch.utils.data import ConcatDataset

from ...config.checks.data import BANDS, check_names
from ..agreement import list_in_all_processes
from ..detection.catalog import list_image_names
from ..shards.images import ShardImages, list_shard_images, register_shards
from ..stream import ErrorRaisingLoader, build_stream_loader
from .folders import ImageFiles, list_images, register_image_folders
from .mapper import PretrainingMapper, SkippingMapper, stack_images
from .pages import ImagePages

logger = logging.getLogger(__name__)


def build_pretraining_dataset(cfg: CfgNode) -> ConcatDataset:
    """Lists the images of DATASETS.TRAIN as {"file_name", "image_id"}; its length is the number of images in an epoch.

    The names are those of DATASETS.IMAGE_FOLDERS and SHARDS or of any registered data set, whose annotations are left
    out.

    Raises:
        InputError: in all processes; see `register_image_folders`, `list_images`, `list_shard_images` and
            `list_image_names`, or if the processes don't find the same images.
    """
    return list_in_all_processes(_find_images, cfg)


def build_pretraining_loader(
    cfg: CfgNode, start_iteration: int = 0, dataset: Sequence | ConcatDataset | None = None
) -> ErrorRaisingLoader:
    """Builds a loader of endless batches for pretraining, beginning with optimizer step `start_iteration`.

    A sample is what `PretrainingMapper` returns, and what `SkippingMapper` adds; a batch, what `stack_images` returns.

    Args:
        cfg: as for `build_stream_loader`
        start_iteration: counted from 0
        dataset: from `build_pretraining_dataset`, if it is built already

    Raises:
        InputError: a data set, or a key, that can't be used. While iterating: too few images can be read.
    """
    mapper = PretrainingMapper(cfg)
    if dataset is None:
        dataset = build_pretraining_dataset(cfg)
    return build_stream_loader(cfg, dataset, SkippingMapper(mapper, dataset), start_iteration, stack_images)


def _find_images(cfg: CfgNode) -> ConcatDataset:
    check_names("DATASETS.TRAIN", cfg.DATASETS.TRAIN)
    register_shards(cfg.DATASETS.SHARDS, cfg.DATASETS.SHARD_CACHE)
    register_image_folders([entry for entry in cfg.DATASETS.IMAGE_FOLDERS if _is_wanted(entry, cfg.DATASETS.TRAIN)])
    parts: list[Any] = [_list_image_files(name, cfg) for name in cfg.DATASETS.TRAIN]
    return ConcatDataset(parts)


def _is_wanted(entry: object, names: Sequence[str]) -> bool:
    """Whether to register an entry: a missing folder matters only if it is named; other invalid entries are errors."""
    pair = isinstance(entry, (list, tuple)) and len(entry) == 2
    return not pair or entry[0] in names or os.path.isdir(str(entry[1]))


def _list_image_files(name: str, cfg: CfgNode) -> ImageFiles | ShardImages | ImagePages:
    metadata, arrays = MetadataCatalog.get(name), cfg.INPUT.FORMAT == BANDS
    files: ImageFiles | ShardImages
    if folder := metadata.get("image_folder"):
        files = list_images(folder, arrays)
    elif shards := metadata.get("shards"):
        files = list_shard_images(shards, arrays)
    else:
        files = ImageFiles.from_names(list_image_names(name, cfg))
    if not cfg.INPUT.ALL_PAGES:
        return files
    pages = ImagePages.from_files(files)
    logger.info(f"{name}: {len(files):,} files with {len(pages):,} pages or frames, each an image (INPUT.ALL_PAGES)")
    return pages
