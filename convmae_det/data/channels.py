"""Mean and deviation of each channel of a data set's images, for MODEL.PIXEL_MEAN and MODEL.PIXEL_STD.

C channels; values are 0–255, as the network gets them. They are counted, so that sums are exact in any order.
"""

import functools
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from detectron2.config import CfgNode
from torch.utils.data import ConcatDataset
from tqdm import tqdm

from ..config.architectures import is_autoencoder, is_segmentor
from ..errors import InputError
from .image import Decoding, read_image
from .inspection.splits import TRAIN, load_splits
from .pretraining.loader import build_pretraining_dataset
from .segmentation.data_sets import list_training_images

LEVELS = 256
MOST_THREADS = 8

Images = Sequence[dict] | ConcatDataset


@dataclass
class ChannelStatistics:
    """What was counted.

    Attributes:
        counts: (C, 256) int64, pixels of each value
        images: how many were counted
        skipped: of the others, why
    """

    counts: np.ndarray
    images: int = 0
    skipped: list[str] = field(default_factory=list)

    @property
    def mean(self) -> list[float]:
        """Of each channel, over all pixels of all images."""
        return [total / count for count, total, _ in self._sums()]

    @property
    def std(self) -> list[float]:
        """Of each channel, over all pixels of all images."""
        return [((count * squares - total**2) ** 0.5) / count for count, total, squares in self._sums()]

    def _sums(self) -> Iterable[tuple[int, int, int]]:
        """Pixels, their sum and the sum of their squares, of each channel, as whole numbers of any size."""
        for counts in self.counts.tolist():
            yield sum(counts), sum(v * n for v, n in enumerate(counts)), sum(v * v * n for v, n in enumerate(counts))


def find_training_images(cfg: CfgNode) -> Images:
    """Finds the images of DATASETS.TRAIN of any kind, in Detectron2's format.

    Raises:
        InputError: a data set that can't be read.
    """
    if is_autoencoder(cfg):
        return build_pretraining_dataset(cfg)
    if is_segmentor(cfg):
        return list_training_images(cfg)
    splits = [split for split in load_splits(cfg) if split.role == TRAIN]
    if problem := next((split.problem for split in splits if split.problem), ""):
        raise InputError(problem)
    return [{"file_name": path} for split in splits for path in split.paths]


def count_values(images: Images, indices: Sequence[int], image_format: str, decoding: Decoding) -> ChannelStatistics:
    """Counts the values of each channel in some images, with progress.

    Args:
        images: of :func:`find_training_images`
        indices: of those to read
        image_format: of `read_image`
        decoding: of `read_image`; with bands 0, the first image that can be read says how many there are

    Raises:
        InputError: none can be read; what is wrong with the first.
    """
    found = None
    count = functools.partial(_count_image, image_format=image_format, decoding=decoding)
    skipped = []
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        counted = pool.map(count, (images[index] for index in indices))
        for result in tqdm(counted, total=len(indices), unit=" images", disable=None):
            if isinstance(result, str):
                skipped.append(result)
                continue
            name, counts = result
            found = found or ChannelStatistics(np.zeros_like(counts))
            if len(counts) != len(found.counts):
                skipped.append(f"{name} has {len(counts)} channels, but images before it have {len(found.counts)}")
                continue
            found.counts += counts
            found.images += 1
    if found is None:
        why = f"; the first: {skipped[0]}" if skipped else ""
        raise InputError(f"none of {len(indices):,} images could be read{why}")
    found.skipped = skipped
    return found


def _count_image(image: dict, image_format: str, decoding: Decoding) -> tuple[str, np.ndarray] | str:
    """Returns the file's name and the counts, (C, 256) int64, of an image, or why it can't be read."""
    try:
        pixels = read_image(image["file_name"], image_format, decoding, image.get("page", 0))
    except InputError as error:
        return str(error)
    channels = np.moveaxis(pixels, 2, 0)
    return image["file_name"], np.stack([np.bincount(channel.ravel(), minlength=LEVELS) for channel in channels])
