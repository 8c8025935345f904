"""Pictures that users give to a network, files, arrays and images of Pillow, as arrays."""

import os

import numpy as np
from PIL import Image, ImageOps

from ..config.checks.data import BANDS
from ..data.image import DEFAULT, Decoding, array_to_pixels, make_visible, read_image, to_pixels
from ..data.large_image import ArrayImage, LargeImage, open_large_image
from ..errors import InputError

Picture = str | os.PathLike | np.ndarray | Image.Image

DRAWN_SIDE = 2048  # pixels of the longer side, from twice which on large images are drawn shrunk


def open_picture(image: Picture, format: str = "RGB", decoding: Decoding = DEFAULT) -> LargeImage:
    """Opens an image of any kind to read parts of it; the arguments are those of :func:`load_pixels`.

    Raises:
        InputError: see :func:`load_pixels`.
    """
    if isinstance(image, (str, os.PathLike)):
        return open_large_image(image, format, decoding)
    return ArrayImage(load_pixels(image, format, decoding))


def load_shrunk(image: Picture, format: str, decoding: Decoding) -> np.ndarray:
    """Does what :func:`load_visible` does, but shrinks large images to less than twice DRAWN_SIDE."""
    if format != BANDS:
        return open_picture(image, "RGB", decoding).shrink(DRAWN_SIDE)
    return make_visible(
        open_picture(image, BANDS, decoding._replace(bands=0)).shrink(DRAWN_SIDE), BANDS, decoding.shown
    )


def load_visible(image: Picture, format: str, decoding: Decoding) -> np.ndarray:
    """Loads what is shown of an image, (H, W, 3) uint8 RGB; of one with bands, or of a picture of some of them."""
    if format != BANDS:
        return load_pixels(image, "RGB", decoding)
    return make_visible(load_pixels(image, BANDS, decoding._replace(bands=0)), BANDS, decoding.shown)


def load_pixels(image: Picture, format: str = "RGB", decoding: Decoding = DEFAULT) -> np.ndarray:
    """Converts an image of any kind to (H, W, C) uint8; `format` and `decoding` as for `data.image.read_image`.

    Raises:
        InputError: it can't be read, or isn't an image.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(image, format, decoding)
    if isinstance(image, np.ndarray) and format == BANDS:
        try:
            return array_to_pixels(image, format, decoding)
        except ValueError as error:
            raise InputError(
                f"an array of shape {image.shape} and type {image.dtype} can't be used: {error}"
            ) from error
    if isinstance(image, np.ndarray):
        image = _convert_array(image)
    if not isinstance(image, Image.Image):
        raise InputError(f"a {type(image).__name__} is not an image: give a path, a NumPy array or an image of Pillow")
    try:
        upright = image if decoding.ignore_exif else ImageOps.exif_transpose(image)
        return to_pixels(upright, format, decoding=decoding)
    except (OSError, ValueError) as error:
        raise InputError(
            f"an image of Pillow's mode {image.mode} can't be used ({error}): convert it to RGB"
        ) from error


def _convert_array(pixels: np.ndarray) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise InputError(
            f"an array of shape {pixels.shape} and type {pixels.dtype} is not an image: it must be (H, W, 3) RGB, "
            "(H, W) grey or (H, W, 4) RGBA, and uint8"
        )
    if not pixels.size:
        raise InputError(f"an array of shape {pixels.shape} holds no pixels")
    return Image.fromarray(np.ascontiguousarray(pixels))
