"""What each image file holds: every one is read and decoded once, several at a time."""

import functools
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...errors import InputError
from ..image import Decoding, make_visible, read_crop
from ..shards.members import Member
from ..survey import File, look_at_file

THUMBNAIL = 16  # pixels, square: what similar images are compared by
ENOUGH = 64  # pixels of the shorter side that are decoded of a JPEG; all of its data are read nevertheless
MOST_THREADS = 16


class ImageFile(NamedTuple):
    """What was seen of a file.

    Attributes:
        kind: what its beginning says
        error: why it can't be read, a sentence; empty if it can
        height, width: in pixels, of the image as training reads it
        digest: of the bytes of the file
        hash: 64 bits that are nearly the same for images that look the same
        thumbnail: (THUMBNAIL, THUMBNAIL) uint8, grey
    """

    kind: File
    error: str = ""
    height: int = 0
    width: int = 0
    digest: bytes = b""
    hash: int = 0
    thumbnail: np.ndarray = np.zeros((THUMBNAIL, THUMBNAIL), np.uint8)


def find_missing(paths: Iterable[str]) -> set[str]:
    """Finds the files that don't exist. Listing each folder once is much faster than asking for each file.

    Those in shards do, since they were listed.
    """
    listed = functools.lru_cache(None)(lambda folder: set(os.listdir(folder)) if os.path.isdir(folder) else set())
    split = ((path, *os.path.split(path)) for path in paths if not isinstance(path, Member))
    return {path for path, folder, name in split if name not in listed(folder or os.curdir)}


def read_image_files(
    paths: Sequence[str], format: str, decoding: Decoding, threads: int | None = None
) -> dict[str, ImageFile]:
    """Reads files, showing progress on a terminal.

    Args:
        paths: different files that exist
        format: INPUT.FORMAT
        decoding: as in training
        threads: how many read at a time; None: one for each core, at most MOST_THREADS
    """
    threads = threads or min(MOST_THREADS, os.cpu_count() or 1)
    read = functools.partial(read_image_file, format=format, decoding=decoding)
    with ThreadPoolExecutor(threads) as pool, tqdm(total=len(paths), unit=" images", disable=None) as progress:
        progress.set_description("Reading")
        found = {}
        for path, file in zip(paths, pool.map(read, paths), strict=True):
            found[path] = file
            progress.update()
        return found


def read_small(path: str, format: str, decoding: Decoding, enough: int) -> tuple[Image.Image, tuple[int, int]]:
    """Reads an image to be shown, at a part of its size if `enough` pixels of its shorter side are left of it.

    Returns:
        RGB, and the height and width of the whole image in pixels

    Raises:
        InputError: see `data.image.read_image`.
    """
    pixels, size = read_crop(path, format, _choose_all, enough, decoding)
    return Image.fromarray(make_visible(pixels, format)), size


def _choose_all(height: int, width: int) -> tuple[int, int, int, int]:
    return 0, 0, height, width


def read_image_file(path: str, format: str, decoding: Decoding) -> ImageFile:
    """Reads a file, of INPUT.FORMAT `format`."""
    import imagehash  # with all of scipy's transforms

    kind = look_at_file(path, format)
    try:
        content = path.read() if isinstance(path, Member) else Path(path).read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        picture, (height, width) = read_small(path, format, decoding, ENOUGH)
        image = picture.convert("L")
    except InputError as error:
        return ImageFile(kind, str(error))
    except OSError as error:
        return ImageFile(kind, f"{path} can't be read ({error.strerror}): make it readable.")
    number = int.from_bytes(np.packbits(imagehash.phash(image).hash).tobytes(), "big")
    thumbnail = np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    return ImageFile(kind, "", height, width, digest, number, thumbnail)
