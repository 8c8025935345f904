"""An image file as it goes into a shard: as it is, or smaller."""

import io
import os
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ...config.checks.data import BANDS, MAX_WHITE
from ...errors import InputError
from ..image import Decoding, is_array_file, open_image, read_crop, read_image, report_errors
from ..pages import SECOND_PICTURE, count_pages
from ..pixels import has_wide_colour

JPEG = ("JPEG", SECOND_PICTURE)  # Pillow's names of what is written as JPEG again
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
JPEG_QUALITY = 95


class Picture(NamedTuple):
    """An image on its way into a shard: its place in the source, and its name and content, or what is wrong."""

    index: int
    name: str
    content: bytes
    error: str = ""


def read_picture(index: int, path: str, key: str, short_side: int, max_pixels: int) -> Picture:
    """Reads an image file, and checks that it can be decoded.

    Args:
        index: of the image in the source
        path: of the file
        key: its name in the shard, without a suffix
        short_side: pixels that the shorter side of a larger image is reduced to; 0: it stays as it is
        max_pixels: height · width of the largest image
    """
    decoding = Decoding(white_level=MAX_WHITE, max_pixels=max_pixels)  # which takes integers of any range
    try:
        suffix, content = _shrink(path, short_side, decoding) if short_side else ("", b"")
        if not content:
            suffix = os.path.splitext(path)[1] or _find_suffix(path, decoding)
            _check_readable(path, decoding)
            with report_errors(path):
                content = Path(path).read_bytes()
    except InputError as error:
        return Picture(index, path, b"", str(error))
    return Picture(index, key + suffix, content)


def _shrink(path: str, short_side: int, decoding: Decoding) -> tuple[str, bytes]:
    """Resizes and encodes an image, turned upright, as JPEG if it is one, else as PNG.

    Returns:
        the suffix and the content; both are empty for what stays as it is: images that are no larger, and those of
        several pages or more than 8 bits
    """
    if is_array_file(path, BANDS) and not _is_plain(path, decoding):
        return "", b""
    with report_errors(path), open_image(path, decoding) as image:
        wide = image.mode[0] in "IF" or has_wide_colour(image)
        if min(image.size) <= short_side or wide or count_pages(path, image) > 1:
            return "", b""
        mode = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB"
        profile = image.info.get("icc_profile") if image.mode in ("L", "RGB", "RGBA") else None
        is_jpeg = image.format in JPEG
    pixels = read_image(path, mode, decoding)
    upright = Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels)
    scale = short_side / min(upright.size)
    width, height = (max(short_side, round(side * scale)) for side in upright.size)
    small = upright.resize((width, height), Image.Resampling.BICUBIC)
    content, suffix = io.BytesIO(), os.path.splitext(path)[1]
    if is_jpeg:
        small.save(content, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4", icc_profile=profile)
        return (suffix if suffix.lower() in JPEG_SUFFIXES else ".jpg"), content.getvalue()
    small.save(content, "PNG", icc_profile=profile)
    return ".png", content.getvalue()


def _is_plain(path: str, decoding: Decoding) -> bool:
    """Whether Pillow, too, reads a file that may be one of bands."""
    try:
        with report_errors(path), open_image(path, decoding):
            return True
    except InputError:
        return False


def _find_suffix(path: str, decoding: Decoding) -> str:
    """Finds a suffix for an image whose name has none, by its content."""
    with report_errors(path), open_image(path, decoding) as image:
        return "." + {"JPEG2000": "jp2"}.get(image.format or "", str(image.format).lower())


def _check_readable(path: str, decoding: Decoding) -> None:
    """Decodes a file as an image, or as one of bands."""
    try:
        read_crop(path, "RGB", lambda height, width: (0, 0, 1, 1), decoding=decoding)
    except InputError:
        if not is_array_file(path, BANDS):
            raise
        read_crop(path, BANDS, lambda height, width: (0, 0, 1, 1), decoding=decoding)
