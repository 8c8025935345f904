"""Images of more than 8 bits keep their levels, by one white level for all of a data set that is found or set."""

import logging
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convmae_det.config.checks.data import check_decoding
from convmae_det.data import pixels
from convmae_det.data.image import Decoding, read_crop, read_image, read_size
from convmae_det.data.pixels import scale_to_8_bits
from convmae_det.data.survey import resolve_white_level
from convmae_det.errors import InputError

BITS = (9, 10, 12, 14, 15, 16)


@pytest.fixture(autouse=True)
def forget_warnings():
    pixels._warned.clear()


def ramp(bits, channels=1):
    """All levels of so many bits, in each channel in another order."""
    levels = np.arange(2**bits, dtype=np.uint16)
    return np.stack([np.roll(levels, 5 * channel) for channel in range(channels)], axis=-1).reshape(-1, 2**8, channels)


def write(path, values):
    values = values[..., 0] if values.shape[-1] == 1 else values[..., [2, 1, 0, 3][: values.shape[-1]]]
    cv2.imwrite(str(path), values)
    return {"file_name": str(path)}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels, format", [(1, "L"), (3, "RGB"), (3, "BGR"), (4, "RGBA")])
def test_all_levels_are_used(tmp_path, cfg, bits, suffix, channels, format):
    values = ramp(bits, channels)
    image = write(tmp_path / f"image{suffix}", values)
    cfg = resolve_white_level(cfg, [image])
    assert cfg.INPUT.WHITE_LEVEL == 2**bits - 1
    read = read_image(image["file_name"], format, Decoding.from_config(cfg))
    expected = (values >> bits - 8)[..., :: -1 if format == "BGR" else 1]
    assert np.array_equal(read, expected) and len(np.unique(read)) == 256


def add_exif(path, orientation):
    """Puts EXIF data behind the header of a PNG that OpenCV has written."""
    exif = Image.Exif()
    exif[274] = orientation
    content, data = path.read_bytes(), exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    path.write_bytes(content[:33] + chunk + content[33:])


@pytest.mark.parametrize("suffix", [".png", ".tif", "compressed.tif"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_they_are_turned_and_cropped_as_bytes_are(tmp_path, suffix, channels, orientation):
    values, path, narrow = ramp(12, channels), tmp_path / f"wide{suffix}", tmp_path / "narrow.png"
    if suffix == ".png":
        write(path, values)
        add_exif(path, orientation)
    else:
        compression = "zlib" if suffix == "compressed.tif" else None
        tag = [(274, "H", 1, orientation, False)]
        tifffile.imwrite(path, values.squeeze(), extratags=tag, photometric=None, compression=compression)
    Image.fromarray((values >> 4).astype(np.uint8).squeeze()).save(narrow)
    add_exif(narrow, orientation)
    for ignore_exif in (False, True):
        decoding = Decoding(white_level=4095, ignore_exif=ignore_exif)
        whole = read_image(path, "RGB", decoding)
        assert np.array_equal(whole, read_image(narrow, "RGB", decoding))
        assert read_size(path, decoding) == whole.shape[:2]
        part, size = read_crop(path, "RGB", lambda height, width: (1, 2, 5, 7), decoding=decoding)
        assert np.array_equal(part, whole[1:6, 2:9]) and size == whole.shape[:2]
    assert np.array_equal(whole[..., 0], (values >> 4)[..., 0])


@given(st.integers(1, 2**16 - 1), st.lists(st.integers(0, 2**16 - 1), min_size=1))
def test_scaling_keeps_order_and_ends(white, values):
    values = np.array([0, white, *values], dtype=np.uint16)
    scaled = scale_to_8_bits(values, white).astype(int)
    assert scaled[0] == 0 and (scaled[values >= white] == (255 * white + white) // (white + 1)).all()
    assert (np.diff(scaled[np.argsort(values, kind="stable")]) >= 0).all()
    below = values <= white
    assert (np.abs(scaled[below] - values[below] * (255 / white)) <= 1 + 255 / white).all()


def test_a_full_range_is_as_without_a_level(tmp_path):
    image = write(tmp_path / "a.png", ramp(16))["file_name"]
    assert np.array_equal(read_image(image, "L"), read_image(image, "L", Decoding(white_level=65535)))


def test_a_level_above_the_range_of_the_file(tmp_path):
    """Such as the range of other files, of 24 bits: what is white in this one is nearly black in those."""
    image = write(tmp_path / "a.png", ramp(16))["file_name"]
    values = read_image(image, "L", Decoding(white_level=2**17 - 1)).astype(int)
    assert np.array_equal(values, read_image(image, "L").astype(int) // 2)


def test_bytes_are_as_they_are_whatever_the_level(tmp_path, cfg):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    images = [{"file_name": str(tmp_path / "a.png")}]
    Image.fromarray(values).save(images[0]["file_name"])
    assert resolve_white_level(cfg, images).INPUT.WHITE_LEVEL == 0
    assert np.array_equal(read_image(images[0]["file_name"], "L", Decoding(white_level=4095))[..., 0], values)


def test_the_level_is_that_of_the_brightest_of_all(tmp_path, cfg, caplog):
    images = [write(tmp_path / f"{i}.png", np.full((8, 8, 1), 2**i, np.uint16)) for i in (3, 9, 11, 4)]
    images.append({"file_name": str(tmp_path / "missing.png")})
    with caplog.at_level(logging.WARNING):
        assert resolve_white_level(cfg, images).INPUT.WHITE_LEVEL == 4095
    assert "INPUT.WHITE_LEVEL is 4095, since the brightest value is 2048" in caplog.text
    assert "4 of 5 images" in caplog.text and "which is little" in caplog.text


def test_a_level_that_is_set_stays(tmp_path, cfg):
    cfg.INPUT.WHITE_LEVEL = 10000
    images = [write(tmp_path / "a.png", ramp(12))]
    assert resolve_white_level(cfg, images).INPUT.WHITE_LEVEL == 10000


@pytest.mark.parametrize("level, sentence", [(0, "set INPUT.WHITE_LEVEL"), (1023, "above INPUT.WHITE_LEVEL 1023")])
def test_a_level_that_does_not_fit_is_said_once(tmp_path, caplog, level, sentence):
    image = write(tmp_path / "a.png", ramp(12))["file_name"]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            read_image(image, "L", Decoding(white_level=level))
    assert caplog.text.count(sentence) == 1 and image in caplog.text


@pytest.mark.parametrize("level", [-1, 1.5, 2**24])
def test_a_level_that_is_none_is_refused(cfg, level):
    cfg.INPUT.WHITE_LEVEL = level
    with pytest.raises(InputError, match="INPUT.WHITE_LEVEL is .*; it must be a whole number"):
        check_decoding(cfg)
