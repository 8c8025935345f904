"""Dividing images for training and validation so that both have all classes in the same proportions.

n images.
"""

from collections.abc import Sequence

import numpy as np

from ....errors import InputError

TRAIN, VAL = "train", "val"
EMPTY = 0  # what images without objects have in place of a class


def split_images(classes: Sequence[set[int]], share: float, seed: int) -> np.ndarray:
    """Chooses images for training, by iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011).

    The images of the rarest class are given out first, each to the side that lacks more of them; then those of the
    rarest that remain. A class of two images and more is on both sides.

    Args:
        classes: of the objects in each image, numbers from 1
        share: of the images, for training
        seed: other seeds choose others

    Returns:
        (n,) bool: whether an image is for training

    Raises:
        InputError: there are fewer than two images.
    """
    if len(classes) < 2:
        raise InputError(f"--split {share:g} needs two images at least, but there is {len(classes)}")
    rng = np.random.default_rng(seed)
    present = [found or {EMPTY} for found in classes]
    order = rng.permutation(len(present)).tolist()
    counts = {label: sum(label in found for found in present) for found in present for label in found}
    lacking = {label: _divide(count, share) for label, count in counts.items()}
    room = _divide(len(present), share)
    is_train = np.zeros(len(present), bool)
    remaining = dict.fromkeys(order)
    while remaining:
        left = dict.fromkeys(counts, 0)
        for image in remaining:
            for label in present[image]:
                left[label] += 1
        rarest = min((label for label in left if left[label]), key=lambda label: (left[label], label))
        for image in [image for image in remaining if rarest in present[image]]:
            need, total = lacking[rarest], room
            side = int((need[1], total[1]) > (need[0], total[0]))
            is_train[image] = side == 0
            room[side] -= 1
            for label in present[image]:
                lacking[label][side] -= 1
            del remaining[image]
    if is_train.all():  # of classes that have an image each
        is_train[order[-1]] = False
    return is_train


def _divide(count: int, share: float) -> list[int]:
    """Divides a number for training and validation, at least one for each if there are two; one is for training."""
    train = min(max(round(count * share), 1), max(count - 1, 1))
    return [train, count - train]
