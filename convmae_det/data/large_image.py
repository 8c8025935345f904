"""Large images: what is needed of them is read by window where their format allows it, else they are decoded once.

H×W pixels, C channels.
"""

import abc
import contextlib
import os
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..config.checks.data import BANDS
from ..errors import InputError
from .file_kinds import SLIDES
from .image import DEFAULT, Decoding, array_to_pixels, make_visible, read_crop, read_image, report_errors, to_pixels
from .pixels import ORIENTATION, choose_series, open_tiff
from .tiles import Tile

MOST_PIXELS = 2**32 - 1  # height · width: masks are written as run lengths of 32 bits
BAND = 2**24  # pixels that are read at once to shrink an image
# The numbers that TIFF gives to kinds of colour (red, green and blue, also as JPEG's, and with grey), and other things.
RGB, COLOURS = (2, 6), (1, 2, 6)
UPRIGHT, CONTIGUOUS, NO_ALPHA, ALPHA = 1, 1, 0, 2


class LargeImage(abc.ABC):
    """An image of which parts are read, (h, w, C) uint8 each.

    Attributes:
        sizes: height and width of the image, and of the smaller copies of it that the file may have, largest first
    """

    sizes: list[tuple[int, int]]

    @property
    def height(self) -> int:
        return self.sizes[0][0]

    @property
    def width(self) -> int:
        return self.sizes[0][1]

    @abc.abstractmethod
    def read(self, tile: Tile, level: int = 0) -> np.ndarray:
        """Reads a part of the image, or of one of the copies.

        Raises:
            InputError: it is damaged.
        """

    def shrink(self, side: int) -> np.ndarray:
        """Reads all of it, averaged over squares of pixels so that it becomes less than twice as long as `side`.

        Raises:
            InputError: see :meth:`read`.
        """
        level = max(number for number, size in enumerate(self.sizes) if number == 0 or max(size) >= side)
        height, width = self.sizes[level]
        factor = max(1, max(height, width) // side)
        if factor == 1:
            return self.read(Tile(0, 0, height, width), level)
        rows, bands = max(1, BAND // (width * factor)) * factor, []
        for top in range(0, height, rows):
            band = self.read(Tile(top, 0, min(rows, height - top), width), level)
            bands.append(_average(band, factor))
        return np.concatenate(bands)


def _average(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Averages (h, w, C) over squares of `factor` pixels; those at the end may be smaller."""
    height, width = (-(-side // factor) for side in pixels.shape[:2])
    below, right = height * factor - pixels.shape[0], width * factor - pixels.shape[1]
    padded = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
    shrunk = [cv2.resize(band, (width, height), interpolation=cv2.INTER_AREA) for band in np.moveaxis(padded, 2, 0)]
    return np.stack(shrunk, axis=2)


class DecodedImage(LargeImage):
    """An image that is decoded as a whole, once; copies for other processes decode it anew."""

    def __init__(self, path: str | os.PathLike, format: str, decoding: Decoding):
        self.source = (path, format, decoding)
        self.pixels: np.ndarray | None = read_image(*self.source)
        self.sizes = [(self.pixels.shape[0], self.pixels.shape[1])]

    def __getstate__(self) -> dict:
        return vars(self) | {"pixels": None}

    def read(self, tile: Tile, level: int = 0) -> np.ndarray:
        if self.pixels is None:
            self.pixels = read_image(*self.source)
        return self.pixels[tile.top : tile.bottom, tile.left : tile.right]


class ArrayImage(LargeImage):
    """An array, (H, W, C) uint8."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels
        self.sizes = [(pixels.shape[0], pixels.shape[1])]

    def read(self, tile: Tile, level: int = 0) -> np.ndarray:
        return self.pixels[tile.top : tile.bottom, tile.left : tile.right]


class Layout(NamedTuple):
    """How a TIFF is stored that can be read by window: sizes as in LargeImage, and samples of a pixel that are used."""

    sizes: list[tuple[int, int]]
    samples: int


class TiffImage(LargeImage):
    """A TIFF in tiles or strips, of which those are decoded that a part lies on."""

    def __init__(self, path: str | os.PathLike, format: str, decoding: Decoding, layout: Layout):
        self.path, self.format, self.decoding = path, format, decoding
        self.sizes, self.samples = layout

    def read(self, tile: Tile, level: int = 0) -> np.ndarray:
        with report_errors(self.path), open_tiff(self.path) as file:
            values = _read_segments(file, choose_series(file).levels[level].keyframe, tile)
            return array_to_pixels(values[:, :, : self.samples], self.format, self.decoding, self.path)


def _find_layout(path: str | os.PathLike, format: str, decoding: Decoding) -> Layout | None:
    """Finds how a TIFF is stored; None if it must be decoded as a whole, as all are that Pillow changes in decoding."""
    with contextlib.suppress(Exception), open_tiff(path) as file:  # what is wrong with it, decoding will say
        levels = choose_series(file).levels
        for level in levels:
            page, axes = level.keyframe, level.axes
            orientation = UPRIGHT if decoding.ignore_exif else page.tags.valueof(ORIENTATION, UPRIGHT)
            if axes not in ("YX", "YXS") or page.photometric not in COLOURS or orientation != UPRIGHT:
                return None
            if page.dtype not in (np.uint8, np.uint16) or (page.planarconfig or CONTIGUOUS) != CONTIGUOUS:
                return None
            if len(page.dataoffsets) < 2 or page.chunks[0] * page.chunks[1] > decoding.max_pixels:
                return None
        page = levels[0].keyframe
        samples, extra = page.samplesperpixel, tuple(page.extrasamples)
        if format != BANDS:
            expected = {1: (), 3: (), 4: (ALPHA,)} if page.photometric in RGB else {1: ()}
            if samples == 4 and extra == (NO_ALPHA,):
                samples, extra = 3, ()
            if samples not in expected or expected[samples] != extra:
                return None
        return Layout([(level.keyframe.imagelength, level.keyframe.imagewidth) for level in levels], samples)
    return None


def _read_segments(file: Any, page: Any, tile: Tile) -> np.ndarray:
    """Reads a part of a page, (h, w, samples), of the type that is stored; what the file leaves out is 0."""
    height, width = page.chunks[:2]
    down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
    rows = range(tile.top // height, min(-(-tile.bottom // height), down))
    columns = range(tile.left // width, min(-(-tile.right // width), across))
    numbers = [row * across + column for row in rows for column in columns]
    offsets, lengths = ([table[number] for number in numbers] for table in (page.dataoffsets, page.databytecounts))
    values = np.zeros((tile.height, tile.width, page.samplesperpixel), page.dtype)
    tables = {"jpegtables": page.jpegtables} if page.jpegtables is not None else {}
    for data, number in file.filehandle.read_segments(offsets, lengths, numbers, sort=False):
        decoded, _, _ = page.decode(data, number, **tables)
        if decoded is None:
            continue
        segment = decoded.reshape(*decoded.shape[-3:])
        place = Tile(number // across * height, number % across * width, *segment.shape[:2])
        part = place.intersect(tile)
        values[part.top - tile.top : part.bottom - tile.top, part.left - tile.left : part.right - tile.left] = segment[
            part.top - place.top : part.bottom - place.top, part.left - place.left : part.right - place.left
        ]
    return values


class SlideImage(LargeImage):
    """A microscope slide, read by OpenSlide; what was not scanned is white."""

    def __init__(self, path: str | os.PathLike, format: str, decoding: Decoding):
        self.path, self.format, self.decoding = path, format, decoding
        with report_errors(path), _open_slide(path) as slide:
            self.sizes = [(height, width) for width, height in slide.level_dimensions]

    def read(self, tile: Tile, level: int = 0) -> np.ndarray:
        scales = self.width / self.sizes[level][1], self.height / self.sizes[level][0]
        corner = round(tile.left * scales[0]), round(tile.top * scales[1])
        with report_errors(self.path), _open_slide(self.path) as slide:
            image = slide.read_region(corner, level, (tile.width, tile.height))
            return to_pixels(_make_opaque(image), self.format, decoding=self.decoding)


def _make_opaque(image: Any) -> Any:
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _open_slide(path: str | os.PathLike) -> Any:
    try:
        from openslide import OpenSlide
    except ImportError as error:
        raise InputError(f"{path} is a slide, which OpenSlide reads: pip install 'convmae_det[large]'") from error
    if not os.path.isfile(path):
        raise InputError(f"{path} doesn't exist")
    return OpenSlide(path)


def open_large_image(path: str | os.PathLike, format: str = "RGB", decoding: Decoding = DEFAULT) -> LargeImage:
    """Opens an image file to read parts of it; `format` and `decoding` as for `data.image.read_image`.

    Tiled and striped TIFFs and slides are read by window, and may have any number of pixels up to MOST_PIXELS; others
    are decoded whole, at most INPUT.MAX_PIXELS.

    Raises:
        InputError: it can't be read, is too large, or needs a library that is missing.
    """
    image = _open_by_window(path, format, decoding) or DecodedImage(path, format, decoding)
    if image.height * image.width > MOST_PIXELS:
        raise InputError(f"{path} has {image.width}×{image.height} pixels, more than {MOST_PIXELS:,}: cut it")
    return image


def _open_by_window(path: str | os.PathLike, format: str, decoding: Decoding) -> LargeImage | None:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SLIDES:
        return SlideImage(path, format, decoding)
    layout = _find_layout(path, format, decoding) if suffix in (".tif", ".tiff") and os.path.isfile(path) else None
    return TiffImage(path, format, decoding, layout) if layout else None


def read_window(
    path: str | os.PathLike, format: str, decoding: Decoding, tile: Tile
) -> tuple[np.ndarray, tuple[int, int]]:
    """Reads a part of an image file, decoding as little of the rest as its format allows.

    Returns:
        (h, w, C) uint8, and height and width of the image

    Raises:
        InputError: see :func:`open_large_image`; or the image is smaller than the tile's place in it.
    """
    image = _open_by_window(path, format, decoding)
    if image is None:
        return read_crop(path, format, lambda height, width: tuple(tile), decoding=decoding)
    return image.read(tile), image.sizes[0]


def read_shrunk(path: str | os.PathLike, format: str, decoding: Decoding, side: int) -> np.ndarray:
    """Reads what is shown of an image that a model reads in `format`, for a picture whose longer side is `side` pixels.

    Little more is decoded than that needs: of a JPEG a part of the frequencies, of a TIFF or slide the smallest copy
    that is large enough, band by band.

    Returns:
        (h, w, 3) uint8 RGB; the longer side has at least `side` pixels, or all that the image has

    Raises:
        InputError: see :func:`open_large_image`.
    """
    kind = format if format == BANDS else "RGB"
    image = _open_by_window(path, kind, decoding)
    if image is not None:
        pixels = image.shrink(side)
    else:
        pixels, _ = read_crop(path, kind, lambda height, width: (0, 0, height, width), side, decoding)
    return make_visible(pixels, kind, decoding.shown)
