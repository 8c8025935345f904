"""Images of every kind come out as 8-bit pixels of the format asked for; what isn't an image is named."""

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from convmae_det.data.image import CHANNELS, Decoding, read_crop, read_image, read_size
from convmae_det.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def saved(tmp_path, image, suffix=".png", **options):
    path = tmp_path / f"image{suffix}"
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def write_png(path, pixels, color_type):
    """A PNG of 16 bits per channel, which Pillow can't write in colour."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    )
    return path


@settings(max_examples=25)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9).map(lambda shape: (*shape, 3))))
def test_colour_is_kept(tmp_path_factory, pixels):
    path = saved(tmp_path_factory.mktemp("image"), pixels)
    assert np.array_equal(read_image(path), pixels)
    assert np.array_equal(read_image(path, "BGR"), pixels[..., ::-1])
    assert np.array_equal(read_image(path, "RGBA")[..., :3], pixels)
    assert np.array_equal(read_image(path, "L")[..., 0], np.asarray(Image.fromarray(pixels).convert("L")))


def is_readable(path) -> bool:
    try:
        Image.open(path).load()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
@pytest.mark.parametrize("format", CHANNELS)
def test_every_mode_gives_every_format(tmp_path, mode, format):
    image = Image.fromarray(GREY.astype(np.uint16)) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    path = saved(tmp_path, image, ".tif" if mode in ("PA", "CMYK", "YCbCr", "I", "F", "I;16") else ".png")
    if mode == "YCbCr" and not is_readable(path):
        pytest.skip("Pillow 12 can't read the TIFF that it has written")
    pixels = read_image(path, format)
    assert pixels.shape == (5, 7, CHANNELS[format]) and pixels.dtype == np.uint8
    assert pixels.flags.writeable and pixels.flags.c_contiguous
    if format == "RGBA" and mode not in ("LA", "PA", "RGBA"):
        assert (pixels[..., 3] == 255).all()


def test_grey_has_three_equal_channels(tmp_path):
    assert np.array_equal(read_image(saved(tmp_path, GREY)), np.stack([GREY] * 3, axis=-1))


def test_one_bit_is_black_and_white(tmp_path):
    assert np.array_equal(read_image(saved(tmp_path, GREY > 99), "L")[..., 0], (GREY > 99) * 255)


def test_palette_is_looked_up(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    assert image.mode == "P"
    assert np.array_equal(read_image(saved(tmp_path, image)), np.asarray(image.convert("RGB")))


def test_cmyk_is_converted(tmp_path):
    cmyk = np.array([[[0, 255, 255, 0], [255, 255, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(cmyk, "CMYK"), ".tif")
    assert read_image(path).tolist() == [[[255, 0, 0], [0, 0, 255], [0, 0, 0]]]


ALPHA = np.array([[0, 51, 255]], dtype=np.uint8)
COLOUR = np.full((1, 3, 3), [10, 100, 200], dtype=np.uint8)
ON_WHITE = np.round(255 + (COLOUR - 255.0) * ALPHA[..., None] / 255)


@pytest.mark.parametrize("format", ["RGB", "BGR", "L"])
def test_transparent_pixels_are_laid_on_white(tmp_path, format):
    rgba = np.concatenate([COLOUR, ALPHA[..., None]], axis=-1)
    pixels = read_image(saved(tmp_path, rgba), format).astype(int)
    expected = Image.fromarray(ON_WHITE.astype(np.uint8)).convert("L" if format == "L" else "RGB")
    expected = np.asarray(expected).reshape(pixels.shape)[..., :: -1 if format == "BGR" else 1]
    assert np.abs(pixels - expected).max() <= 1


def test_alpha_is_kept_where_asked_for(tmp_path):
    rgba = np.concatenate([COLOUR, ALPHA[..., None]], axis=-1)
    assert np.array_equal(read_image(saved(tmp_path, rgba), "RGBA"), rgba)


def test_grey_with_alpha_is_laid_on_white(tmp_path):
    image = Image.fromarray(np.stack([COLOUR[..., 0], ALPHA], axis=-1), "LA")
    assert np.abs(read_image(saved(tmp_path, image))[..., 1].astype(int) - ON_WHITE[..., 0]).max() <= 1


def test_transparent_palette_entry_is_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    path = saved(tmp_path, image, transparency=1)
    assert read_image(path).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert read_image(path, "RGBA")[..., 3].tolist() == [[255, 0]]


def test_transparent_colour_key_is_white(tmp_path):
    path = saved(tmp_path, COLOUR, transparency=(10, 100, 200))
    assert (read_image(path) == 255).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path, suffix):
    wide = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    path = saved(tmp_path, wide, suffix)
    assert read_image(path, "L")[..., 0].tolist() == [[0, 0, 1, 128, 255]]  # Pillow's own: 0 255 255 255 255


def test_big_endian_16_bit_grey(tmp_path):
    wide = np.arange(0, 65536, 9000, dtype=np.uint16)[None]
    image = Image.frombytes("I;16B", (wide.shape[1], 1), wide.astype(">u2").tobytes())
    assert np.array_equal(read_image(saved(tmp_path, image, ".tif"), "L")[..., 0], wide >> 8)


@pytest.mark.parametrize("color_type, channels", [(0, 1), (2, 3), (6, 4)])
def test_16_bit_png_has_the_brightness_of_its_8_bit_form(tmp_path, color_type, channels):
    narrow = np.random.default_rng(1).integers(0, 256, (4, 6, channels), dtype=np.uint16)
    path = write_png(tmp_path / "wide.png", narrow * 257, color_type)
    assert np.array_equal(read_image(path, {1: "L", 3: "RGB", 4: "RGBA"}[channels]), narrow)


@pytest.mark.parametrize("scale", [1, 255])
def test_floats_up_to_1_or_255(tmp_path, scale):
    path = saved(tmp_path, np.array([[0, 0.2, 0.5, 1]], dtype=np.float32) * scale, ".tif")
    assert read_image(path, "L")[..., 0].tolist() == [[0, 51, 128, 255]]


@pytest.mark.parametrize(
    "pixels", [np.float32([[-1, 3]]), np.float32([[0, 256]]), np.float32([[0, np.nan]]), np.int32([[0, 65536]])]
)
def test_pixels_of_unknown_range_are_refused(tmp_path, pixels):
    with pytest.raises(InputError, match=r"image\.tif can't be read.*its pixels are"):
        read_image(saved(tmp_path, pixels, ".tif"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:8, :16] = 255  # where the top left quarter goes, says how the image was turned
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = read_image(saved(tmp_path, stored, suffix, exif=exif), "L")[..., 0] > 127
    corner = [(0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (0, 1), (1, 1), (1, 0)][orientation - 1]
    assert shown.shape == ((16, 32) if orientation < 5 else (32, 16))
    height, width = (side // 2 for side in shown.shape)
    quarter = shown[corner[0] * height :, corner[1] * width :][:height, :width]
    assert quarter.mean() > 0.95 and shown.sum() == pytest.approx(quarter.sum(), rel=0.05)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_leaves_the_image_as_it_is(tmp_path):
    path = saved(tmp_path, RGB, ".jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=100)
    assert read_image(path).shape == RGB.shape


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "damage", ["3201 0b00 01000000 7ca62061", "6987 0600 01000000 f1ec3fac", "05a0 0700 04000000 1ee39949"]
)
def test_an_image_is_turned_whatever_else_its_exif_says(tmp_path, damage):
    """A date that is a float, a group of entries at no place, an offset that is none."""
    orientation = "1201 0300 01000000 06000000"
    exif = b"Exif\0\0II*\0\x08\0\0\0" + bytes.fromhex(f"0200 {orientation} {damage} 00000000") + bytes(range(24))
    path = saved(tmp_path, RGB, ".jpg", exif=exif, quality=100)
    upright = saved(tmp_path, RGB, ".jpeg", quality=100)
    assert np.array_equal(read_image(path), np.rot90(read_image(upright), -1))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jpg can't be read as an image \(No such file"):
        read_image(tmp_path / "nowhere.jpg")


def test_folder_is_no_image(tmp_path):
    with pytest.raises(InputError, match="can't be read as an image"):
        read_image(tmp_path)


@pytest.mark.parametrize("content, problem", [(b"", "it is empty"), (b"<html>", "it is no image")])
def test_what_is_no_image_is_named(tmp_path, content, problem):
    path = tmp_path / "page.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"page\.jpg can't be read as an image \({problem}"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_file_is_named(tmp_path, suffix, share):
    path = saved(tmp_path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), suffix)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=rf"image\{suffix} can't be read as an image \(.+\): repair or replace"):
        read_image(path)


@pytest.mark.filterwarnings("ignore")  # Pillow may warn of the damage first
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_file_raises_nothing_but_input_errors(tmp_path_factory, data):
    path = saved(tmp_path_factory.mktemp("image"), RGB, data.draw(st.sampled_from([".png", ".jpg", ".tif", ".gif"])))
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        assert read_image(path).dtype == np.uint8  # the damage may be in the pixels
    except InputError as error:
        assert str(path) in str(error)


def test_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match=r"image\.png is too large.*35 pixels.*exceeds limit.*INPUT.MAX_PIXELS"):
        read_image(saved(tmp_path, RGB))


def test_a_large_image_is_read_once_a_key_allows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back afterwards
    path = tmp_path / "wide.png"
    Image.new("1", (2**14, 11000)).save(path)  # 180 million pixels
    with pytest.raises(InputError, match=r"wide\.png is too large .*180224000 pixels.*: set INPUT.MAX_PIXELS"):
        read_crop(path, "L", lambda height, width: (0, 0, 2, 3))
    raised = Decoding(max_pixels=2**14 * 11000)
    assert read_size(path, raised) == (11000, 2**14)
    assert read_crop(path, "L", lambda height, width: (0, 0, 2, 3), decoding=raised)[0].shape == (2, 3, 1)


@pytest.mark.parametrize("read", [lambda path, decoding: read_image(path, "L", decoding), read_size])
def test_a_lower_limit_holds(tmp_path, read):
    path = saved(tmp_path, RGB)
    sentence = r"image\.png is too large \(7×5 = 35 pixels, more than INPUT.MAX_PIXELS 34\): set INPUT.MAX_PIXELS 35"
    with pytest.raises(InputError, match=sentence):
        read(path, Decoding(max_pixels=34))
    assert len(read(path, Decoding(max_pixels=35)))


@pytest.mark.parametrize("suffix, kind", [(".heic", "convert it"), (".mp4", "a video"), (".zip", "unpack it")])
def test_what_pillow_does_not_read_is_named_by_its_kind(tmp_path, suffix, kind):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(b"\0" * 64)
    with pytest.raises(InputError, match=f"file{suffix} can't be read as an image: it is .*{kind}"):
        read_image(path)


def test_a_raw_photo_is_not_its_thumbnail(tmp_path):
    path = saved(tmp_path, RGB, ".tif").rename(tmp_path / "photo.DNG")
    with pytest.raises(InputError, match=r"photo\.DNG can't be read as an image: it is a raw photograph"):
        read_image(path)


@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_grey_tiff(tmp_path, compression, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned, plain = (saved(tmp_path, GREY, suffix, exif=exif, compression=compression) for suffix in (".tif", ".png"))
    assert np.array_equal(read_image(turned, "L"), read_image(plain, "L"))


def test_unknown_format_names_the_key(tmp_path):
    with pytest.raises(InputError, match="INPUT.FORMAT is 'YUV-BT.601'; it must be one of RGB, BGR, L, RGBA"):
        read_image(saved(tmp_path, RGB), "YUV-BT.601")


@pytest.mark.parametrize("read", [read_image, read_size])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="pipe.jpg can't be read as an image .it is no file"):
        read(tmp_path / "pipe.jpg")
