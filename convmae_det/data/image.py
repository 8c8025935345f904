"""Any image file that Pillow can decode, as pixels of one kind."""

import os

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from convmae_det.errors import InputError

CHANNELS = {"RGB": 3, "BGR": 3, "L": 1, "RGBA": 4}  # of each INPUT.FORMAT


def check_format(format: str) -> None:
    """Raise InputError unless `format` is one that `read_image` gives."""
    if format not in CHANNELS:
        raise InputError(f"INPUT.FORMAT is {format!r}, but must be one of {', '.join(CHANNELS)}.")


def check_channels(cfg) -> None:
    """Raise InputError unless INPUT.FORMAT is known and MODEL.PIXEL_MEAN has an entry for each of its channels."""
    check_format(cfg.INPUT.FORMAT)
    channels, entries = CHANNELS[cfg.INPUT.FORMAT], len(cfg.MODEL.PIXEL_MEAN)
    if entries != channels:
        raise InputError(
            f"MODEL.PIXEL_MEAN has {entries} entries, but must have one for each of the {channels} channels of "
            f"INPUT.FORMAT {cfg.INPUT.FORMAT}."
        )


def read_image(path: str | os.PathLike, format: str = "RGB") -> np.ndarray:
    """Read an image file, turned upright as its EXIF orientation says.

    Transparent pixels are laid on white, as viewers show them, unless the format is RGBA. Integers of 16 bits keep
    their high byte, whatever part of the range an image uses, so that brightness means the same in all images. Floats
    are taken to span 0 to 1 if none is above 1, else 0 to 255.

    Args:
        path: the file
        format: "RGB", "BGR", "L" or "RGBA"

    Returns:
        (H, W, C) uint8, writable

    Raises:
        InputError: no such file, or one that isn't an image, is damaged, is larger than Pillow's limit against
            decompression bombs, or has pixels whose range isn't known.
    """
    check_format(format)
    try:
        with Image.open(path) as image:
            image.load()
            pixels = to_pixels(_upright(image), format)
    except Exception as error:  # on damaged files, Pillow's decoders raise nearly anything
        raise InputError(
            f"{path} can't be read as an image ({_reason(path, error)}): repair or replace the file, or take it out of "
            "the data set."
        ) from error
    return pixels


def to_pixels(image: Image.Image, format: str) -> np.ndarray:
    """(H, W, C) uint8 of a decoded image, as it lies; ValueError for pixels whose range isn't known."""
    return _convert(_to_8_bits(image), format)


def _upright(image: Image.Image) -> Image.Image:
    """Apply the orientation from the file's EXIF data; without any that can be read, the image stays as it is."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # the pixels have been read, so only the EXIF data are damaged
        pass
    return image


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Bring modes with wider pixels to L. Pillow itself would clip them at 255."""
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
    """(H, W, C) uint8 of a Pillow image with 8-bit pixels."""
    if image.has_transparency_data and format != "RGBA":
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("RGB" if format == "BGR" else format))
    if format == "BGR":
        return np.ascontiguousarray(pixels[:, :, ::-1])
    return pixels.reshape(*pixels.shape[:2], CHANNELS[format])


def _reason(path: str | os.PathLike, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a kind that Pillow knows" if os.path.getsize(path) else "it is empty"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
