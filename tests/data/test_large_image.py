"""Parts of large images are those of the whole image, however a file stores them."""

import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from convmae_det.data.image import DEFAULT, read_image
from convmae_det.data.large_image import (
    DecodedImage,
    TiffImage,
    open_large_image,
    read_shrunk,
    read_window,
)
from convmae_det.data.tiles import Tile

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (70, 90, 4), dtype=np.uint8)
WORDS = RANDOM.integers(0, 2**16, (70, 90, 4), dtype=np.uint16)
TILED = {"tile": (32, 48)}
PARTS = [Tile(0, 0, 70, 90), Tile(31, 47, 2, 2), Tile(5, 9, 60, 33), Tile(69, 89, 1, 1)]

# pixels, how they are written, the format that reads them, and whether that is possible by window
FILES = {
    "tiles": (BYTES[..., :3], TILED, "RGB", True),
    "BGR": (BYTES[..., :3], TILED, "BGR", True),
    "strips": (BYTES[..., :3], {"rowsperstrip": 16}, "RGB", True),
    "compressed": (BYTES[..., :3], {**TILED, "compression": "zlib", "predictor": True}, "RGB", True),
    "grey": (BYTES[..., 0], TILED, "RGB", True),
    "transparent": (BYTES, {**TILED, "extrasamples": ["unassalpha"]}, "RGB", True),
    "16 bits": (WORDS[..., 0], TILED, "L", True),
    "16 bits of colour": (WORDS[..., :3], TILED, "RGB", True),
    "bands": (WORDS, {**TILED, "photometric": "minisblack", "planarconfig": "contig"}, "bands", True),
    "one strip": (BYTES[..., :3], {}, "RGB", False),
    "turned": (BYTES[..., :3], {**TILED, "extratags": [(274, 3, 1, 6, True)]}, "RGB", False),
    "planes": (np.moveaxis(BYTES[..., :3], 2, 0), {**TILED, "planarconfig": "separate"}, "RGB", False),
    "floats": (BYTES[..., 0] / np.float32(255), TILED, "L", False),
}


@pytest.fixture(params=FILES, ids=list(FILES))
def file(request, tmp_path):
    pixels, how, format, by_window = FILES[request.param]
    if pixels.ndim == 3 and "photometric" not in how:
        how = how | {"photometric": "rgb"}
    tifffile.imwrite(tmp_path / "image.tif", pixels, **how)
    return tmp_path / "image.tif", format, by_window


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_parts_of_a_tiff_are_those_of_the_whole(file):
    path, format, by_window = file
    whole, image = read_image(path, format), open_large_image(path, format)
    assert isinstance(image, TiffImage if by_window else DecodedImage)
    assert (image.height, image.width) == whole.shape[:2]
    for part in PARTS if by_window else [Tile(1, 2, 30, 20)]:
        expected = whole[part.top : part.bottom, part.left : part.right]
        assert np.array_equal(image.read(part), expected)
        pixels, size = read_window(path, format, DEFAULT, part)
        assert np.array_equal(pixels, expected) and size == whole.shape[:2]
    assert np.array_equal(pickle.loads(pickle.dumps(image)).read(part), expected)


GRADIENT = np.linspace(0, 255, 400).astype(np.uint8)[None, :, None].repeat(300, 0).repeat(3, 2)  # 300×400


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_picture_is_read_at_a_part_of_its_size_where_its_format_allows(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, GRADIENT, photometric="rgb", tile=(64, 64))
    else:
        Image.fromarray(GRADIENT).save(path)
    read = read_shrunk(path, "BGR", DEFAULT, 80)
    assert read.dtype == np.uint8 and read.shape[2] == 3 and 80 <= read.shape[1] <= (400 if suffix == ".png" else 200)
    height, width = read.shape[:2]
    expected = np.asarray(Image.fromarray(GRADIENT).resize((width, height), Image.Resampling.BOX))
    assert np.abs(read.astype(int) - expected).max() <= 3
    assert np.array_equal(read_shrunk(path, "RGB", DEFAULT, 500), read_image(path))


def test_a_picture_of_bands_shows_those_that_are_chosen(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BYTES, photometric="minisblack", planarconfig="contig", tile=(32, 48))
    read = read_shrunk(tmp_path / "a.tif", "bands", DEFAULT._replace(shown=(3, 0, 1), bands=4), 100)
    assert np.array_equal(read, BYTES[:, :, [3, 0, 1]])


def test_of_a_pyramid_the_smallest_copy_that_suffices_is_read(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRADIENT, photometric="rgb", tile=(64, 64), subifds=1)
        file.write(GRADIENT[::2, ::2] // 2, photometric="rgb", tile=(64, 64), subfiletype=1)
    assert read_shrunk(tmp_path / "a.tif", "RGB", DEFAULT, 200).max() < 130
    assert read_shrunk(tmp_path / "a.tif", "RGB", DEFAULT, 201).max() > 250
