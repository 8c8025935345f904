"""A share of a data set, by which training with few images is compared with training on all of them."""

import logging
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from torch.utils.data import Subset

logger = logging.getLogger(__name__)

STREAM = 2  # of random numbers, apart from those of stream.py


def choose_share(dataset: Sequence, share: float, seed: int) -> Sequence:
    """Chooses a share of the images, at least one, in the order of their names.

    The choice depends on their names and the seed alone, and that of a smaller share is part of that of a larger one.

    Args:
        dataset: items with a "file_name", or other ones, whose order then takes the place of that of names
        share: of the images, above 0; 1 is the data set itself
        seed: not negative

    Returns:
        max(1, round(share · number of images)) of the items, by position
    """
    if share == 1:
        return dataset
    count, by_name = max(1, round(share * len(dataset))), sorted(range(len(dataset)), key=lambda i: _name(dataset, i))
    chosen = np.random.default_rng((seed, 0, STREAM)).permutation(len(dataset))[:count]
    logger.info(f"DATASETS.TRAIN_SHARE {share:g}: {count:,} of {len(dataset):,} images, chosen by SEED {seed}")
    return cast(Any, Subset(cast(Any, dataset), [by_name[place] for place in sorted(chosen)]))


def _name(dataset: Sequence, index: int) -> tuple[str, int]:
    item = dataset[index]
    return (item.get("file_name", "") if isinstance(item, dict) else ""), index
