"""Values of any range as 8-bit pixels, and files that Pillow can't read, or not in full depth, as arrays.

H×W pixels, n bands.
"""

import logging
import os
from typing import Any

import cv2
import numpy as np
from PIL.ImageFile import ImageFile

from ..errors import InputError
from .shards.members import Member, open_content

logger = logging.getLogger(__name__)

FULL_RANGE = 2**16 - 1  # white in integers of more than 8 bits, unless a white level is set
ORIENTATION = 274  # the tag of TIFF and EXIF
COPY_OR_MASK = 0b101  # bits of NewSubfileType, of smaller copies and masks of another image in the file

_warned: set[str] = set()


def scale_to_8_bits(pixels: np.ndarray, white_level: int = 0, name: str | os.PathLike = "an image") -> np.ndarray:
    """Scales values to 0–255.

    Args:
        pixels: of any shape; bytes stay as they are, floats are taken as 0 to 1 if none is above 1, else as 0 to 255
        white_level: of wider integers, what becomes 255, as all above does; 0: 65535
        name: of the file, for warnings

    Raises:
        ValueError: the range of the values isn't known.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if not pixels.size or pixels.dtype.kind not in "biuf":
        raise ValueError(f"it holds an array of shape {pixels.shape} and type {pixels.dtype}, not pixels")
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * 255
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f":
        if not (0 <= low and high <= 255):  # also if either is NaN
            raise ValueError(f"its pixels are floats from {low:g} to {high:g}, not from 0 to 1 or 255")
        return np.round(pixels * 255 if high <= 1 else pixels).astype(np.uint8)
    if not (0 <= low and high <= max(white_level, FULL_RANGE)):
        raise ValueError(f"its pixels are integers from {low} to {high}, which are neither 8 nor 16 bits")
    white = white_level or FULL_RANGE
    if high > white:
        _warn_once("bright", f"{name} reaches {high}: what is above INPUT.WHITE_LEVEL {white} becomes white")
    elif not white_level and high < FULL_RANGE // 2:
        advice = "set INPUT.WHITE_LEVEL to the level of training"
        _warn_once("dark", f"{name} reaches {high} alone, but in images of 16 bits 65535 is white: {advice}")
    return (np.minimum(pixels.astype(np.uint32), white) * 256 // (white + 1)).astype(np.uint8)


def _warn_once(kind: str, sentence: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        logger.warning("%s. Other such images are not named.", sentence)


def has_wide_colour(image: ImageFile) -> bool:
    """Whether an image that isn't decoded yet has colours, or transparency, of 16 bits, of which Pillow keeps 8."""
    if image.format not in ("PNG", "TIFF") or image.mode.startswith("I") or not image.tile:
        return False
    arguments = image.tile[0][3]
    return ";16" in str(arguments[0] if isinstance(arguments, tuple) else arguments)


def read_wide_colour(path: str | os.PathLike, frame: int = 0) -> np.ndarray:
    """Reads a PNG or TIFF in full depth, not turned: (H, W, 3 or 4) uint16, RGB or RGBA.

    Raises:
        ValueError: it can't be read.
    """
    content = np.frombuffer(path.read(), np.uint8) if isinstance(path, Member) else np.fromfile(path, dtype=np.uint8)
    if frame:
        pixels = cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)[1][frame]
    else:
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint16:
        raise ValueError("its 16-bit colours can't be decoded")
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def read_bands(path: str | os.PathLike, bands: int, ignore_exif: bool, max_pixels: int) -> np.ndarray:
    """Reads a .npy file, (H, W), (H, W, n) or (n, H, W), or a TIFF, whose samples, or whose pages, are bands.

    Args:
        path: of the file
        bands: n; 0: any
        ignore_exif: whether a TIFF is left as it is stored, not turned as its orientation says
        max_pixels: the largest H·W

    Returns:
        (H, W, n), of the file's own type.

    Raises:
        InputError: it is too large.
        ValueError: it is no such array.
    """
    if os.fspath(path).lower().endswith(".npy"):
        return _read_npy(path, bands, max_pixels)
    with open_tiff(path) as file:
        series = choose_series(file)
        sides = dict(zip(series.axes, series.shape, strict=True))
        if not {"Y", "X"} <= sides.keys():
            raise ValueError(f"its axes {series.axes} are not those of an image")
        check_size(path, sides["X"], sides["Y"], max_pixels)
        pixels = np.moveaxis(series.asarray(), [series.axes.index(axis) for axis in "YX"], (0, 1))
        pixels = pixels.reshape(sides["Y"], sides["X"], -1)
        orientation = 1 if ignore_exif else int(series.keyframe.tags.valueof(ORIENTATION, 1))
    return turn(pixels, orientation)


def read_array_type(path: str | os.PathLike) -> np.dtype:
    """Reads the type of the values that :func:`read_bands` returns."""
    if os.fspath(path).lower().endswith(".npy"):
        return _load_array(path).dtype
    with open_tiff(path) as file:
        return choose_series(file).dtype


def choose_series(file: Any) -> Any:
    """Chooses the first of the images in an open TIFF, with the smaller copies of it, unless it is a preview."""
    return next((series for series in file.series if not series.keyframe.subfiletype & COPY_OR_MASK), file.series[0])


def open_tiff(path: str | os.PathLike) -> Any:
    """Opens a TIFF with tifffile, as a context.

    Raises:
        InputError: the library is missing.
    """
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise InputError(f"{path} needs the library tifffile: pip install tifffile") from error
    return TiffFile(open_content(path))


def _load_array(path: str | os.PathLike) -> np.ndarray:
    content = open_content(path)
    return np.load(content, allow_pickle=False, mmap_mode="r" if content is path else None)


def _read_npy(path: str | os.PathLike, bands: int, max_pixels: int) -> np.ndarray:
    pixels = _load_array(path)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3:
        raise ValueError(f"its shape is {pixels.shape}, not (height, width, bands)")
    if bands and pixels.shape[2] != bands and pixels.shape[0] == bands:
        pixels = np.moveaxis(pixels, 0, 2)
    check_size(path, pixels.shape[1], pixels.shape[0], max_pixels)
    return np.array(pixels)


def check_size(path: str | os.PathLike, width: int, height: int, max_pixels: int) -> None:
    """Checks that an image isn't larger than INPUT.MAX_PIXELS.

    Raises:
        InputError: it is.
    """
    if width * height > max_pixels:
        raise InputError(
            f"{path} is too large ({width}×{height} = {width * height:,} pixels, more than INPUT.MAX_PIXELS "
            f"{max_pixels}): set INPUT.MAX_PIXELS {width * height} if you trust the file and have the memory, or cut it"
        )


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns (H, W, …) as an EXIF orientation, 1 to 8, says; other numbers change nothing."""
    if orientation not in range(2, 9):
        return pixels
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = ((0, 0), (0, 1), (1, 1), (1, 0))[(orientation - 1) % 4]
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]
