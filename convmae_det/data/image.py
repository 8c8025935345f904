"""Reads image files of any format that Pillow decodes, or parts of them, as uint8 arrays."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ..config.checks import CHANNELS, check_format
from ..errors import InputError

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def read_image(path: str | os.PathLike, format: str = "RGB") -> np.ndarray:
    """Reads an image file, rotated as its EXIF orientation says.

    Transparent pixels become white, as viewers show them, unless the format is RGBA. 16-bit integers keep their high
    byte, whatever range an image uses, so that brightness means the same in all images. Floats are taken as 0 to 1 if
    none is above 1, else as 0 to 255.

    Args:
        path: the file
        format: "RGB", "BGR", "L" or "RGBA"

    Returns:
        (H, W, C) uint8, writable

    Raises:
        InputError: the file doesn't exist, isn't an image, is damaged, is larger than Pillow's limit against
            decompression bombs, or has pixels whose range isn't known.
    """
    pixels, _ = read_crop(path, format, lambda height, width: (0, 0, height, width))
    return pixels


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """Reads the height and width of the image that `read_image` returns.

    Raises:
        InputError: see `read_image`.
    """
    with _errors_of(path), _open(path) as image:
        return _upright_size(image, _orientation(image))


def read_crop(
    path: str | os.PathLike,
    format: str,
    choose: Callable[[int, int], tuple[int, int, int, int]],
    enough: int | None = None,
) -> tuple[np.ndarray, tuple[int, int]]:
    """Reads a part of what `read_image` returns, chosen before anything is decoded.

    If fewer pixels are enough, a JPEG is decoded at a half, a quarter or an eighth of its height and width: the inverse
    cosine transform then runs on a part of the coefficients, which leaves out the frequencies that resizing would
    remove. The part's edges then lie between pixels of the reduced image, and are moved to the nearest ones.

    Args:
        path: as for `read_image`
        format: as for `read_image`
        choose: takes the image's height and width, rotated, and returns top, left, height and width of the part
        enough: number of pixels that the part keeps along both sides if it has them; None: all of it is decoded

    Returns:
        (H, W, C) uint8, writable, and the image's height and width

    Raises:
        InputError: see `read_image`; also for damage outside the part.
    """
    if format not in CHANNELS:
        check_format(format)  # raises
    with _errors_of(path):
        image = _open(path)
    with image:
        with _errors_of(path):
            orientation = _orientation(image)
        height, width = _upright_size(image, orientation)
        part = choose(height, width)
        with _errors_of(path):
            scale = _reduce(image, min(part[2:]) // enough if enough else 1)
            upright = image if orientation == 1 else _turn(image)
            return to_pixels(upright, format, _corners(part, scale)), (height, width)


def to_pixels(image: Image.Image, format: str, corners: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Converts a Pillow image, without rotating it, to an array.

    Args:
        image: of any mode
        format: as for `read_image`
        corners: left, top, right and bottom of a part; None: the whole image

    Returns:
        (H, W, C) uint8

    Raises:
        ValueError: the range of the pixels isn't known.
    """
    image = _to_8_bits(image)  # first, for their range is that of the whole image
    whole = corners in (None, (0, 0, *image.size))
    return _convert(image if whole else image.crop(corners), format)


def _open(path: str | os.PathLike) -> Image.Image:
    if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait without end
        raise ValueError("it is no file")
    return Image.open(path)


@contextlib.contextmanager
def _errors_of(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # on damaged files, Pillow's decoders raise nearly anything
        raise InputError(
            f"{path} can't be read as an image ({_reason(path, error)}): repair or replace the file, or take it out of "
            "the data set."
        ) from error


def _orientation(image: Image.Image) -> int:
    """As the EXIF data say; 1, upright, without any that can be read.

    Formats other than JPEG are decoded first: they may hold it behind the pixels, or be turned by their decoder.
    """
    if not isinstance(image, JpegImageFile):
        image.load()
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def _turn(image: Image.Image) -> Image.Image:
    """Upright, as the EXIF data say that `_orientation` has read."""
    image.info.pop("exif", None)  # exif_transpose would write them anew, which fails where other entries are damaged
    return ImageOps.exif_transpose(image)


def _upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Height and width."""
    return image.size if orientation in SIDEWAYS else image.size[::-1]


def _reduce(image: Image.Image, most: int) -> int:
    """Makes Pillow decode a JPEG at 1 / scale of its size; returns scale, the largest of 1, 2, 4, 8 up to `most`."""
    if most < 2 or not isinstance(image, JpegImageFile):
        return 1
    scale = max(scale for scale in (2, 4, 8) if scale <= most)
    return scale if image.draft(None, (image.width // scale, image.height // scale)) else 1


def _corners(part: tuple[int, int, int, int], scale: int) -> tuple[int, int, int, int]:
    """Computes left, top, right and bottom of the part in an image reduced by `scale`."""
    top, left, height, width = part
    return round(left / scale), round(top / scale), round((left + width) / scale), round((top + height) / scale)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Converts modes with wider pixels to L. Pillow itself would clip them at 255."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    if image.mode == "F":
        if not (0 <= low and high <= 255):  # also if either is NaN
            raise ValueError(f"its pixels are floats from {low:g} to {high:g}, not from 0 to 1 or 255")
        pixels = np.round(pixels * 255 if high <= 1 else pixels)
    else:
        if not (0 <= low and high < 2**16):
            raise ValueError(f"its pixels are integers from {low} to {high}, which are neither 8 nor 16 bits")
        pixels = pixels >> 8
    return Image.fromarray(pixels.astype(np.uint8))


def _convert(image: Image.Image, format: str) -> np.ndarray:
    """Converts a Pillow image with 8-bit pixels to (H, W, C) uint8."""
    if image.has_transparency_data and format != "RGBA":
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "RGB" if format == "BGR" else format
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    if format == "BGR":
        return np.ascontiguousarray(pixels[:, :, ::-1])
    return pixels.reshape(*pixels.shape[:2], CHANNELS[format])


def _reason(path: str | os.PathLike, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a kind that Pillow knows" if os.path.getsize(path) else "it is empty"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
