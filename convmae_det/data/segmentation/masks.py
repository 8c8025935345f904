"""Masks: files of an image's size that hold the number of a class at every pixel; and their checks before training."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from ...errors import InputError, shorten_list
from ..image import Decoding, open_image, read_size, report_errors

logger = logging.getLogger(__name__)

NUMBERS = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")  # Pillow's modes of one number a pixel
THREADS = 8  # that decode masks


def read_mask(path: str, decoding: Decoding) -> np.ndarray:
    """Reads a mask: (H, W) uint8, or int32 where it has more than 8 bits. A palette's colours mean nothing.

    Raises:
        InputError: it can't be read, or holds no whole numbers.
    """
    with report_errors(path), open_image(path, decoding) as image:
        mode = "JPEG" if image.format == "JPEG" else image.mode
        values = np.array(image) if mode in NUMBERS else None
    if values is None:
        problem = "which changes the numbers" if mode == "JPEG" else "not one number a pixel"
        raise InputError(
            f"{path} is no mask, but a picture in {mode}, {problem}: save the numbers of the classes as a grey or "
            "palette PNG."
        )
    return values.astype(np.uint8 if values.dtype.itemsize == 1 else np.int32, copy=False)


def check_size(mask_file: str, mask: np.ndarray, image_file: str, size: tuple[int, int]) -> None:
    """Checks that a mask has the (height, width) of its image.

    Raises:
        InputError: it hasn't.
    """
    if mask.shape != tuple(size):
        raise InputError(
            f"{mask_file} is {mask.shape[1]}×{mask.shape[0]} pixels, but its image {image_file} is "
            f"{size[1]}×{size[0]}: label the image at its own size."
        )


def check_values(mask_file: str, mask: np.ndarray, classes: int, ignore_value: int) -> np.ndarray:
    """Checks that all values are classes or to be ignored.

    Returns:
        (classes,) int64: how many pixels each class has

    Raises:
        InputError: one isn't.
    """
    values, counts = np.unique(mask, return_counts=True)
    known = (values >= 0) & (values < classes)
    others = values[~known & (values != ignore_value)].tolist()
    if others:
        shown = shorten_list(others)
        raise InputError(
            f"{mask_file} holds {shown}, but its {classes} classes are 0 to {classes - 1}, and what has none is "
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE {ignore_value}: correct the mask, the classes or that key."
        )
    found = np.zeros(classes, np.int64)
    found[values[known]] = counts[known]
    return found


def count_pixels(
    name: str, images: Sequence[dict], classes: Sequence[str], ignore_value: int, decoding: Decoding
) -> np.ndarray:
    """Checks all masks of a data set, and counts their pixels by class.

    Args:
        name: of the data set
        images: each with its "file_name" and "sem_seg_file_name"
        classes: their names, in order
        ignore_value: of pixels without a class
        decoding: of the images

    Returns:
        (number of images, classes) int64

    Raises:
        InputError: a mask is missing, of another size than its image, or holds something else than classes; or no
            pixel has a class.
    """

    def count(index: int) -> np.ndarray:
        image = images[index]
        mask = read_mask(image["sem_seg_file_name"], decoding)
        check_size(image["sem_seg_file_name"], mask, image["file_name"], read_size(image["file_name"], decoding))
        return check_values(image["sem_seg_file_name"], mask, len(classes), ignore_value)

    with ThreadPoolExecutor(THREADS) as threads:
        counting = threads.map(count, range(len(images)))
        progress = tqdm(counting, f"Checking the masks of {name}", len(images), unit="mask", delay=1, disable=None)
        counts = np.stack(list(progress))
    if not counts.any():
        raise InputError(f"No pixel in the masks of {name} has a class: label some, or choose other data.")
    return counts


def describe_counts(name: str, counts: np.ndarray, classes: Sequence[str]) -> str:
    """Describes a data set: its number of images, and of each class its share of the pixels and its images.

    Args:
        name: of the data set
        counts: of :func:`count_pixels`
        classes: their names, in order
    """
    shares, images = 100 * counts.sum(0) / counts.sum(), (counts > 0).sum(0)
    rows = [(label, f"{share:.2f}", n) for label, share, n in zip(classes, shares, images, strict=True)]
    table = tabulate(rows, ["class", "% of the pixels", "images"], "pipe", disable_numparse=True)
    missing = [label for label, n in zip(classes, images, strict=True) if not n]
    lacking = f"\nNo pixel is of {', '.join(missing)}." if missing else ""
    return f"{name}: {len(counts):,} images with masks\n{table}{lacking}"
