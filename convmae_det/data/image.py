"""Reads image files of any format that Pillow decodes, or parts of them, and files of bands, as uint8 arrays.

Whatever is called a path may also be a file in a tar file, a `Member`.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from yacs.config import CfgNode

from ..config.checks.data import BANDS, CHANNELS, MAX_PIXELS, check_format
from ..errors import InputError
from .file_kinds import ARRAY, NOT_READ, RAW
from .pages import go_to_page
from .pixels import check_size, has_wide_colour, read_bands, read_wide_colour, scale_to_8_bits, turn
from .shards.members import Member, measure_content, open_content

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
TURNED_BACK = {6: 8, 8: 6}  # the orientations that undo these; the others undo themselves


class Decoding(NamedTuple):
    """How the values in a file become pixels, beside the format; the defaults are those of the configuration.

    Attributes:
        white_level: what is white in integers of more than 8 bits; 0: 65535
        ignore_exif: whether images are left as they are stored, not turned as their EXIF orientation says
        max_pixels: height · width of the largest image that is read
        bands: of the format "bands": how many an image must have; 0: any number
        shown: of the format "bands": those that are red, green and blue, or grey, in pictures; empty: the first
    """

    white_level: int = 0
    ignore_exif: bool = False
    max_pixels: int = MAX_PIXELS
    bands: int = 0
    shown: tuple[int, ...] = ()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Decoding":
        bands = len(cfg.MODEL.PIXEL_MEAN) if cfg.INPUT.FORMAT == BANDS else 0
        shown = tuple(cfg.INPUT.get("SHOWN_BANDS", ()))  # which runs of earlier versions don't record
        return cls(cfg.INPUT.WHITE_LEVEL, cfg.INPUT.IGNORE_EXIF, cfg.INPUT.MAX_PIXELS, bands, shown)


DEFAULT = Decoding()


def read_image(path: str | os.PathLike, format: str = "RGB", decoding: Decoding = DEFAULT, page: int = 0) -> np.ndarray:
    """Reads an image file, rotated as its EXIF orientation says.

    Transparent pixels become white, as viewers show them, unless the format is RGBA. Integers of more than 8 bits are
    scaled by the same white level whatever range an image uses, so that brightness means the same in all images.
    Floats are taken as 0 to 1 if none is above 1, else as 0 to 255.

    Args:
        path: the file
        format: "RGB", "BGR", "L", "RGBA", or "bands" for the channels that the file has: of a TIFF, its samples or
            pages; of a .npy file, (H, W), (H, W, n) or (n, H, W); of other files, grey, colours and transparency
        decoding: what else decides about the pixels
        page: of a file of several pages or frames, counted from 0

    Returns:
        (H, W, C) uint8, writable

    Raises:
        InputError: the file doesn't exist, isn't an image, is damaged or too large, has pixels whose range isn't
            known, or another number of bands.
    """
    pixels, _ = read_crop(path, format, lambda height, width: (0, 0, height, width), decoding=decoding, page=page)
    return pixels


def read_visible(
    path: str | os.PathLike, format: str = "RGB", decoding: Decoding = DEFAULT, page: int = 0
) -> np.ndarray:
    """Reads what is shown of an image that a model reads in `format`: (H, W, 3) uint8 RGB.

    Raises:
        InputError: see `read_image`.
    """
    if format == BANDS:
        return make_visible(read_image(path, format, decoding, page), format, decoding.shown)
    return read_image(path, "RGB", decoding, page)


def make_visible(pixels: np.ndarray, format: str, shown: Sequence[int] = ()) -> np.ndarray:
    """Makes (H, W, 3) uint8 RGB of (H, W, C): of bands those that are `shown`, see :func:`choose_shown`."""
    pixels = pixels[:, :, choose_shown(pixels.shape[2], shown)]
    pixels = pixels[:, :, ::-1] if format == "BGR" else pixels
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def choose_shown(channels: int, shown: Sequence[int] = ()) -> list[int]:
    """Chooses the channels that a picture shows: three, or one as grey.

    Args:
        channels: how many the image has
        shown: those that are wanted; none, or some that it doesn't have: the first three, or the first
    """
    if shown and max(shown) < channels:
        return list(shown)
    return [0, 1, 2] if channels >= 3 else [0]


def read_size(path: str | os.PathLike, decoding: Decoding = DEFAULT) -> tuple[int, int]:
    """Reads the height and width of the image that `read_image` returns.

    Raises:
        InputError: see `read_image`.
    """
    with report_errors(path):
        if is_array_file(path, ""):
            return _read_array(path, decoding).shape[:2]
    with report_errors(path), open_image(path, decoding) as image:
        return _compute_upright_size(image, _find_orientation(image, decoding))


def read_crop(
    path: str | os.PathLike,
    format: str,
    choose: Callable[[int, int], tuple[int, int, int, int]],
    enough: int | None = None,
    decoding: Decoding = DEFAULT,
    page: int = 0,
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
        decoding: as for `read_image`
        page: as for `read_image`

    Returns:
        (H, W, C) uint8, writable, and the image's height and width

    Raises:
        InputError: see `read_image`; also for damage outside the part.
    """
    if format not in CHANNELS:
        check_format(format)  # raises
    if is_array_file(path, format):
        with report_errors(path):
            pixels = array_to_pixels(_read_array(path, decoding), format, decoding, path)
        return _crop(pixels, choose)
    with report_errors(path):
        image = open_image(path, decoding, page)
    with image:
        if decoding.white_level and has_wide_colour(image):
            with report_errors(path):
                pixels = array_to_pixels(_read_wide_colour(path, image, decoding), format, decoding, path)
            return _crop(pixels, choose)
        with report_errors(path):
            orientation = _find_orientation(image, decoding)
        height, width = _compute_upright_size(image, orientation)
        part = choose(height, width)
        with report_errors(path):
            scale = _reduce(image, min(part[2:]) // enough if enough else 1)
            upright = image if orientation == 1 else _turn(image)
            return to_pixels(upright, format, _scale_corners(part, scale), decoding, path), (height, width)


def read_values(path: str | os.PathLike, format: str, decoding: Decoding, page: int = 0) -> np.ndarray:
    """Reads the values of a file of more than 8 bits as they are stored, (H, W) or (H, W, n).

    Raises:
        InputError: see `read_image`.
    """
    with report_errors(path):
        if is_array_file(path, format):
            return _read_array(path, decoding)
        with open_image(path, decoding, page) as image:
            return _read_wide_colour(path, image, decoding) if has_wide_colour(image) else np.asarray(image)


def is_array_file(path: str | os.PathLike, format: str) -> bool:
    """Whether a file is read as an array, not by Pillow."""
    name = os.fspath(path).lower()
    return name.endswith(ARRAY) or (format == BANDS and name.endswith((".tif", ".tiff")))


def to_pixels(
    image: Image.Image,
    format: str,
    corners: tuple[int, int, int, int] | None = None,
    decoding: Decoding = DEFAULT,
    name: str | os.PathLike = "an image",
) -> np.ndarray:
    """Converts a Pillow image, without rotating it, to an array.

    Args:
        image: of any mode
        format: as for `read_image`
        corners: left, top, right and bottom of a part; None: the whole image
        decoding: as for `read_image`
        name: of the file, for warnings

    Returns:
        (H, W, C) uint8

    Raises:
        ValueError: the range of the pixels isn't known, or they have another number of bands.
    """
    if image.mode == "F" or image.mode.startswith("I"):  # wider than 8 bits: Pillow itself would clip them at 255
        pixels = np.asarray(image)  # all of it, for the range of floats is that of the whole image
        image = Image.fromarray(scale_to_8_bits(pixels, decoding.white_level, name))
    whole = corners in (None, (0, 0, *image.size))
    return _convert(image if whole else image.crop(corners), format, decoding.bands)


def array_to_pixels(
    pixels: np.ndarray, format: str, decoding: Decoding = DEFAULT, name: str | os.PathLike = "an array"
) -> np.ndarray:
    """Converts (H, W) or (H, W, n) of any range to (H, W, C) uint8 as `read_image` returns it.

    Raises:
        ValueError: the range isn't known, or there are too many or too few bands.
    """
    pixels = scale_to_8_bits(pixels if pixels.ndim == 3 else pixels[..., None], decoding.white_level, name)
    if format == BANDS:
        _check_bands(pixels.shape[2], decoding.bands)
        return np.array(pixels, order="C")
    if pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"it has {pixels.shape[2]} bands, for which INPUT.FORMAT must be {BANDS}")
    pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return _convert(Image.fromarray(np.ascontiguousarray(pixels)), format)


def _read_array(path: str | os.PathLike, decoding: Decoding) -> np.ndarray:
    """Reads the values of a .npy file or of a TIFF, (H, W, n)."""
    _check_is_file(path)
    return read_bands(path, decoding.bands, decoding.ignore_exif, decoding.max_pixels)


def _crop(pixels: np.ndarray, choose: Callable) -> tuple[np.ndarray, tuple[int, int]]:
    """Cuts out the part of (H, W, C) that `choose` of `read_crop` chooses; also returns H, W."""
    top, left, height, width = choose(*pixels.shape[:2])
    return np.array(pixels[top : top + height, left : left + width], order="C"), pixels.shape[:2]


def _read_wide_colour(path: str | os.PathLike, image: ImageFile, decoding: Decoding) -> np.ndarray:
    """Reads the colours of an image that Pillow has opened in full depth, turned unless that is ignored."""
    orientation = _read_orientation(image)
    if image.format == "TIFF" and orientation != 1:  # OpenCV would turn some of them itself, and fail on others
        return _read_array(path, decoding)
    values = read_wide_colour(path, image.tell())
    return values if decoding.ignore_exif else turn(values, orientation)


def _check_is_file(path: str | os.PathLike) -> None:
    if not isinstance(path, Member) and not stat.S_ISREG(
        os.stat(path).st_mode
    ):  # to open a pipe would wait without end
        raise ValueError("it is no file")


def open_image(path: str | os.PathLike, decoding: Decoding, page: int = 0) -> ImageFile:
    """Opens a file that Pillow decodes, unless it is too large; within :func:`report_errors`."""
    _check_is_file(path)
    if decoding.max_pixels > MAX_PIXELS and Image.MAX_IMAGE_PIXELS:  # Pillow's own limit
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, decoding.max_pixels)
    if NOT_READ.get(os.path.splitext(path)[1].lower()) == RAW:
        raise ValueError("Pillow would read its thumbnail")
    image = Image.open(open_content(path))
    if page or image.format == "TIFF":  # whose first frame may be a thumbnail
        go_to_page(path, image, page)
    if image.width * image.height > decoding.max_pixels:
        check_size(path, *image.size, decoding.max_pixels)  # raises
    return image


@contextlib.contextmanager
def report_errors(path: str | os.PathLike) -> Iterator[None]:
    """Makes an InputError that names the file of whatever goes wrong with it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # on damaged files, Pillow's decoders raise nearly anything
        raise InputError(_describe_error(path, error)) from error


def _find_orientation(image: ImageFile, decoding: Decoding) -> int:
    """Finds what the EXIF data say; 1, upright, without any that can be read, or where they are ignored.

    Formats other than JPEG are decoded first: they may hold it behind the pixels. Pillow turns a TIFF as it decodes it;
    where it is to stay as it is stored, this is the orientation that turns it back.
    """
    turned = 1
    if not isinstance(image, JpegImageFile):
        turned = _read_orientation(image) if image.format == "TIFF" else 1
        if turned in SIDEWAYS:
            image.filename = ""  # a file that Pillow maps into memory, it would decode by the sides of the turned image
        image.load()
    if not decoding.ignore_exif:
        return _read_orientation(image)
    back = TURNED_BACK.get(turned, turned)
    image.getexif()[ExifTags.Base.Orientation] = back
    return back


def _read_orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def _turn(image: Image.Image) -> Image.Image:
    """Turns an image upright, as the EXIF data say that `_find_orientation` has read."""
    image.info.pop("exif", None)  # exif_transpose would write them anew, which fails where other entries are damaged
    return ImageOps.exif_transpose(image)


def _compute_upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Computes height and width."""
    return image.size if orientation in SIDEWAYS else image.size[::-1]


def _reduce(image: Image.Image, most: int) -> int:
    """Makes Pillow decode a JPEG at 1 / scale of its size; returns scale, the largest of 1, 2, 4, 8 up to `most`."""
    if most < 2 or not isinstance(image, JpegImageFile):
        return 1
    scale = max(scale for scale in (2, 4, 8) if scale <= most)
    return scale if image.draft(None, (image.width // scale, image.height // scale)) else 1


def _scale_corners(part: tuple[int, int, int, int], scale: int) -> tuple[int, int, int, int]:
    """Computes left, top, right and bottom of the part in an image reduced by `scale`."""
    top, left, height, width = part
    return round(left / scale), round(top / scale), round((left + width) / scale), round((top + height) / scale)


def _convert(image: Image.Image, format: str, bands: int = 0) -> np.ndarray:
    """Converts a Pillow image with 8-bit pixels to (H, W, C) uint8."""
    if format == BANDS:
        return _convert_to_bands(image, bands)
    if image.has_transparency_data and format != "RGBA":
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "RGB" if format == "BGR" else format
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    if format == "BGR":
        return np.ascontiguousarray(pixels[:, :, ::-1])
    return pixels.reshape(*pixels.shape[:2], CHANNELS[format])


def _convert_to_bands(image: Image.Image, bands: int) -> np.ndarray:
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("L" if image.mode == "1" else "RGBA" if image.has_transparency_data else "RGB")
    pixels = np.array(image).reshape(*image.size[::-1], -1)
    _check_bands(pixels.shape[2], bands)
    return pixels


def _check_bands(found: int, wanted: int) -> None:
    if wanted and found != wanted:
        raise ValueError(f"it has {found} bands, but MODEL.PIXEL_MEAN has {wanted} entries, one for each")


def _describe_error(path: str | os.PathLike, error: Exception) -> str:
    """Makes the sentence of an InputError."""
    kind = NOT_READ.get(os.path.splitext(path)[1].lower())
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"{path} is too large ({str(error).partition(',')[0]}): set INPUT.MAX_PIXELS to at least its number of "
            "pixels if you trust the file and have the memory, or cut it."
        )
    if kind and measure_content(path):
        return f"{path} can't be read as an image: it is {kind}."
    if isinstance(error, UnidentifiedImageError):
        reason = "it is no image of a kind that Pillow knows" if measure_content(path) else "it is empty"
    else:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{path} can't be read as an image ({reason}): repair or replace the file, or take it out of the data set."
