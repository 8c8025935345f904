"""A part of an image is read as if the whole had been; decoding at a lower resolution changes it little."""

import io

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop, v2

from convmae_det.data.image import CHANNELS, read_crop, read_image
from convmae_det.data.pretraining.mapper import PretrainingMapper, choose_crop
from convmae_det.errors import InputError

ORIENTATION = 0x0112


def photograph(height, width, seed=0):
    """Noise whose amplitude falls with its frequency."""
    rng, pixels = np.random.default_rng(seed), np.full((height, width, 3), 128.0)
    for octave in range(9):
        noise = rng.standard_normal((3, (height >> octave) + 1, (width >> octave) + 1)).astype(np.float32)
        layers = [Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC) for layer in noise]
        pixels += 3 * 1.5**octave * np.stack(layers, axis=-1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def saved(path, image, orientation=1, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif, **options)
    return path


def fixed(part):
    return lambda height, width: part


@st.composite
def images_and_parts(draw, longest):
    height, width = draw(st.integers(1, longest)), draw(st.integers(1, longest))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return (height, width), (top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))


@settings(max_examples=60)
@given(images_and_parts(40), st.integers(1, 8), st.sampled_from([".jpg", ".png", ".tif"]), st.sampled_from([*CHANNELS]))
def test_a_part_is_that_of_the_whole(tmp_path_factory, image_and_part, orientation, suffix, format):
    """Bit for bit, in every format and orientation, where all pixels are needed."""
    size, part = image_and_part
    path = saved(tmp_path_factory.mktemp("image") / f"image{suffix}", photograph(*size), orientation)
    whole = read_image(path, format)
    if orientation > 4:  # the part is one of the image as it is shown
        part = (part[1], part[0], part[3], part[2])
    top, left, height, width = part
    pixels, shape = read_crop(path, format, fixed(part), enough=max(height, width))
    assert shape == whole.shape[:2]
    assert np.array_equal(pixels, whole[top : top + height, left : left + width])
    assert pixels.flags.writeable and pixels.flags.c_contiguous


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
def test_a_part_of_every_mode(tmp_path, mode):
    """What decides how pixels are read, such as the range of floats, is looked for in the whole image."""
    image = photograph(20, 30)
    if mode in ("I;16", "F"):
        image = Image.fromarray(np.array(image.convert("L")).astype(np.uint16 if mode == "I;16" else np.float32))
        image.putpixel((0, 0), 0)
    path = saved(tmp_path / "image.tif", image if mode in ("I;16", "F") else image.convert(mode))
    pixels, _ = read_crop(path, "RGB", fixed((3, 4, 10, 12)), enough=2)
    assert np.array_equal(pixels, read_image(path)[3:13, 4:16])


@settings(max_examples=30, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking takes minutes
@given(
    size=st.tuples(st.integers(8, 48), st.integers(8, 48)),
    part=st.tuples(*[st.floats(0, 1)] * 4),
    enough=st.integers(8, 48),
    orientation=st.integers(1, 8),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    progressive=st.booleans(),
)
def test_a_reduced_part_is_the_same_picture(tmp_path_factory, size, part, enough, orientation, mode, progressive):
    """It has enough pixels, or all; resized as the pixels between its edges are, it differs by few levels of 255."""
    path = tmp_path_factory.mktemp("image") / "image.jpg"
    picture = photograph(8 * size[0], 8 * size[1]).convert(mode)  # edges at whole pixels, whatever the orientation
    saved(path, picture, orientation, quality=90, progressive=progressive)
    whole = read_image(path)
    height, width = (8 + int(share * (side - 8)) for share, side in zip(part[2:], whole.shape, strict=False))
    top, left = int(part[0] * (len(whole) - height)), int(part[1] * (whole.shape[1] - width))
    pixels, shape = read_crop(path, "RGB", fixed((top, left, height, width)), enough)
    scale = max(scale for scale in (1, 2, 4, 8) if scale == 1 or scale <= min(height, width) // enough)
    top, bottom, left, right = (round(edge / scale) * scale for edge in (top, top + height, left, left + width))
    expected = whole[top:bottom, left:right]
    assert shape == whole.shape[:2]
    assert pixels.shape[0] * scale == len(expected) and pixels.shape[1] * scale == expected.shape[1]
    assert min(pixels.shape[:2]) >= min(enough, height, width)
    difference = np.abs(shrink(expected, enough) - shrink(pixels, enough)).mean()
    assert difference <= (2 if scale > 1 else 0)


def shrink(pixels, size):
    image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).astype(float)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_parts_are_where_they_belong(tmp_path, scale, orientation):
    """Where the edges fall on pixels of the reduced image, nothing but the filter tells it from the plain form."""
    path = saved(tmp_path / "image.jpg", photograph(512, 640), orientation, quality=95)
    whole = read_image(path)
    pixels, _ = read_crop(path, "RGB", fixed((64, 128, 256, 320)), 256 // scale)
    assert pixels.shape == (256 // scale, 320 // scale, 3)
    means = whole[64:320, 128:448].reshape(256 // scale, scale, 320 // scale, scale, 3).mean((1, 3))
    assert np.abs(pixels - means).mean() < 2


def test_the_first_picture_of_several_is_reduced(tmp_path):
    """As phones write them: a JPEG file with a second picture behind the first."""
    path, images = tmp_path / "image.jpg", [photograph(160, 256, seed) for seed in range(2)]
    images[0].save(path, "MPO", save_all=True, append_images=images[1:], quality=95)
    pixels, shape = read_crop(path, "RGB", fixed((0, 0, 160, 256)), 80)
    assert shape == (160, 256) and pixels.shape == (80, 128, 3)
    assert np.abs(pixels - read_image(path).reshape(80, 2, 128, 2, 3).mean((1, 3))).mean() < 2


@pytest.mark.parametrize("progressive", [False, True])
def test_what_is_truncated_is_refused_at_every_resolution(tmp_path, progressive):
    path = tmp_path / "image.jpg"
    stream = io.BytesIO()
    photograph(128, 128).save(stream, "JPEG", progressive=progressive)
    content = stream.getvalue()
    refused = 0
    for length in [*range(0, len(content), 97), len(content) - 2, len(content)]:
        path.write_bytes(content[:length])
        whole = outcome(lambda: read_image(path))
        for enough in (64, 32, 16):
            assert outcome(lambda enough=enough: read_crop(path, "RGB", fixed((0, 0, 128, 128)), enough)) == whole
        refused += whole is not None
    assert refused > 20


def outcome(read):
    try:
        read()
    except InputError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore")
def test_an_orientation_that_cannot_be_read_is_none(tmp_path):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\xff\xff\xff\xff"  # 6, then a broken link
    photograph(16, 32).save(tmp_path / "image.jpg", exif=exif)
    whole = read_image(tmp_path / "image.jpg")
    _, shape = read_crop(tmp_path / "image.jpg", "RGB", fixed((0, 0, 16, 16)))
    assert shape == whole.shape[:2]


def test_errors_of_the_choice_are_not_the_files(tmp_path):
    photograph(16, 32).save(tmp_path / "image.jpg")
    with pytest.raises(ZeroDivisionError):
        read_crop(tmp_path / "image.jpg", "RGB", lambda height, width: 1 / 0)


# The mapper.


@settings(max_examples=200)
@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    seed=st.integers(0, 2**32),
)
def test_crops_are_those_of_torchvision(size, scale, seed):
    torch.manual_seed(seed)
    crop, after = choose_crop(*size, scale), torch.rand(1)
    torch.manual_seed(seed)
    expected = RandomResizedCrop.get_params(torch.empty(1, *size, device="meta"), scale, (3 / 4, 4 / 3))
    assert crop == tuple(expected) and torch.equal(torch.rand(1), after)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 999),
    flip=st.sampled_from([("none", v2.Identity()), ("horizontal", v2.RandomHorizontalFlip())]),
    suffix=st.sampled_from([".png", ".jpg"]),
)
def test_a_sample_is_that_of_the_plain_form(tmp_path_factory, size, seed, flip, suffix):
    """Bit for bit where nothing is reduced: torchvision's transforms on the whole image, with the same seed."""
    path = saved(tmp_path_factory.mktemp("image") / f"image{suffix}", photograph(*size))
    name, plain_flip = flip
    crop = v2.RandomResizedCrop(32, (0.2, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True)
    torch.manual_seed(seed)
    expected = plain_flip(crop(torch.from_numpy(read_image(path)).permute(2, 0, 1)))
    torch.manual_seed(seed)
    mapper = PretrainingMapper(image_format="RGB", size=32, scale=(0.2, 1.0), flip=name)
    assert torch.equal(mapper({"file_name": str(path)})["image"], expected)
