"""What the files of a data set are like, as far as it decides what is trained on: depth, pages, and turned photos."""

import functools
import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.logger import log_first_n
from PIL import ExifTags, Image
from torch.utils.data import ConcatDataset

from ..errors import InputError
from .image import SIDEWAYS, Decoding, is_array_file, read_values
from .pages import count_pages, go_to_page
from .pixels import FULL_RANGE, has_wide_colour, read_array_type, scale_to_8_bits
from .shards.members import open_content

logger = logging.getLogger(__name__)

LOOKED_AT = 1000  # files of a data set whose beginnings are read, evenly spread
DECODED = 64  # of these, images of more than 8 bits in which the brightest value is looked for
FEW_LEVELS = 128  # of 256
THREADS = 8  # that wait for files

Images = Sequence[dict] | ConcatDataset


class File(NamedTuple):
    """What the beginning of an image file says; what it doesn't is as in most files."""

    name: str
    pages: int = 1
    orientation: int = 1  # of EXIF
    is_square: bool = False
    is_wide: bool = False  # integers of more than 8 bits

    @property
    def is_turned(self) -> bool:
        return self.orientation in range(2, 9)


def look_at_file(name: str, format: str) -> File:
    """Reads the beginning of a file, of INPUT.FORMAT `format`. One that can't be read is reported where it is used."""
    try:
        if is_array_file(name, format):
            kind = read_array_type(name)
            return File(name, is_wide=kind.kind in "iu" and kind.itemsize > 1)
        with Image.open(open_content(name)) as image:
            pages = count_pages(name, image)
            go_to_page(name, image, 0)
            wide = image.mode.startswith("I") or has_wide_colour(image)
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            return File(name, pages, orientation, image.width == image.height, wide)
    except Exception:
        return File(name)


@functools.lru_cache(maxsize=16)
def look_at_files(names: tuple[str, ...], format: str) -> list[File]:
    """Does what :func:`look_at_file` does, several files at a time."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(functools.partial(look_at_file, format=format), names))


def spread_indices(length: int, most: int) -> list[int]:
    """Chooses at most `most` of the indices below `length`, evenly spread."""
    return np.linspace(0, length - 1, min(length, most)).round().astype(int).tolist()


def hash_names(dataset: Sequence[dict]) -> str:
    """Hashes the names of files of a data set, without their folders, which differ from machine to machine."""
    names = [os.path.basename(dataset[index]["file_name"]) for index in spread_indices(len(dataset), LOOKED_AT)]
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()[:16]


def log_file_kinds(name: str, images: Images, cfg: CfgNode) -> None:
    """Warns, once, of files of a data set of which not all is read, or that may be turned against their annotations."""
    names = tuple(image["file_name"] for image in _choose(images))
    files = look_at_files(names, cfg.INPUT.FORMAT)
    for describe in (describe_pages, describe_turned):
        if sentence := describe(files, len(images), cfg):
            log_first_n(logging.WARNING, f"{name}: {sentence}", key="message", name=__name__)


def describe_pages(files: Sequence[File], total: int, cfg: CfgNode) -> str:
    """Describes files of several pages or frames, of which one is read; empty if there are none.

    Args:
        files: what was seen of them
        total: number of files, of which these are a sample
        cfg: how they are read
    """
    paged = [file for file in files if file.pages > 1]
    if not paged or cfg.INPUT.ALL_PAGES:
        return ""
    pages = sum(file.pages for file in paged)
    return (
        f"{len(paged):,} of {_count(files, total)} have several pages or frames, {pages:,} in all, of which the first "
        f"alone is read, such as {paged[0].name}; INPUT.ALL_PAGES True makes each an image, in pretraining"
    )


def describe_turned(files: Sequence[File], total: int, cfg: CfgNode) -> str:
    """Describes photos whose EXIF orientation may be against their annotations unnoticed; empty if there are none.

    The arguments are those of :func:`describe_pages`.
    """
    turned = [file for file in files if file.is_turned]
    hidden = [file for file in turned if file.is_square or file.orientation not in SIDEWAYS]
    if not hidden:
        return ""
    how = "left as they are stored" if cfg.INPUT.IGNORE_EXIF else "turned"
    return (
        f"{len(turned):,} of {_count(files, total)} have an EXIF orientation and are {how}; the size of "
        f"{len(hidden):,}, square, mirrored or upside down, such as {hidden[0].name}, doesn't tell whether they were "
        "annotated so: look at them with convmae-det visualize, and set INPUT.IGNORE_EXIF "
        f"{not cfg.INPUT.IGNORE_EXIF} if they were not"
    )


def _count(files: Sequence[File], total: int) -> str:
    return f"{total:,} files" if len(files) == total else f"{len(files):,} files that were looked at, of {total:,},"


def resolve_white_level(cfg: CfgNode, images: Images) -> CfgNode:
    """Returns a copy of `cfg` whose INPUT.WHITE_LEVEL, where it is 0, is found from the images, and logs it.

    It stays 0 where no image has more than 8 bits. Else it is the largest value of as many bits as the brightest pixel
    has, of some images that are looked at: 4095 for 12 bits. All processes get the same.
    """
    resolved = cfg.clone()
    resolved.defrost()
    if not cfg.INPUT.WHITE_LEVEL:
        pages = tuple((image["file_name"], image.get("page", 0)) for image in _choose(images))
        level = _find_white_level(pages, cfg.INPUT.FORMAT, Decoding.from_config(cfg))
        resolved.INPUT.WHITE_LEVEL = max(comm.all_gather(level))
    if cfg.is_frozen():
        resolved.freeze()
    return resolved


def _choose(images: Images) -> list[dict]:
    """Chooses some images, of data sets that name their files."""
    chosen = [images[index] for index in spread_indices(len(images), LOOKED_AT)]
    return [image for image in chosen if isinstance(image, dict) and "file_name" in image]


@functools.lru_cache(maxsize=4)  # and so said once
def _find_white_level(pages: tuple[tuple[str, int], ...], format: str, decoding: Decoding) -> int:
    """Finds the level of images, given by file and page; 0 if none has more than 8 bits."""
    files = look_at_files(tuple(name for name, _ in pages), format)
    wide = [page for page, file in zip(pages, files, strict=True) if file.is_wide]
    seen = np.zeros(FULL_RANGE + 1, bool)  # whether a value occurs
    for index in spread_indices(len(wide), DECODED):
        _mark_values(*wide[index], format, decoding, seen)
    if not seen.any():
        return 0
    values = np.flatnonzero(seen)
    highest = int(values[-1])
    level = max(2 ** highest.bit_length() - 1, 255)
    levels = len(np.unique(scale_to_8_bits(values, level)))
    logger.warning(
        f"{len(wide):,} of {len(pages):,} images that were looked at have more than 8 bits: INPUT.WHITE_LEVEL is "
        f"{level}, since the brightest value is {highest}. Of 256 levels of grey {levels} are left"
        f"{', which is little: ' if levels < FEW_LEVELS else '; '}another INPUT.WHITE_LEVEL would scale them otherwise"
    )
    return level


def _mark_values(name: str, page: int, format: str, decoding: Decoding, seen: np.ndarray) -> None:
    """Marks the values of an image in `seen`, (65536,) bool. One that can't be read is reported where it is used."""
    try:
        pixels = read_values(name, format, decoding, page)
    except InputError:
        return
    seen[np.clip(pixels, 0, FULL_RANGE)] = True
