"""Samples of pretraining: random crops of any image, resized and perhaps flipped; damaged files are passed over."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from convmae_det.data.image import CHANNELS
from convmae_det.data.pretraining.mapper import PretrainingMapper, SkippingMapper
from convmae_det.data.stream import SampleStream
from convmae_det.errors import InputError


def noise(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return {"file_name": str(path), "image_id": 0}


def mapper(**changes):
    return PretrainingMapper(**{"image_format": "RGB", "size": 16, "scale": (0.2, 1.0), "flip": "none"} | changes)


@pytest.mark.parametrize("seed", range(20))
def test_crops_are_those_of_random_resized_crop(tmp_path, seed):
    """With the same draws; and resized as Pillow resizes, bicubic with antialiasing."""
    size = np.random.default_rng(seed).integers(20, 90, 2)
    smooth = Image.fromarray(noise(np.random.default_rng(seed), 6, 6)).resize(size, Image.Resampling.BICUBIC)
    item = save(tmp_path / "image.png", smooth)
    torch.manual_seed(seed)
    image = mapper()(item)["image"]
    torch.manual_seed(seed)
    top, left, height, width = RandomResizedCrop.get_params(smooth, (0.2, 1.0), (3 / 4, 4 / 3))
    crop = smooth.crop((left, top, left + width, top + height)).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - np.asarray(crop)).max() <= 2


def test_areas_are_spread_evenly_over_the_scale(tmp_path):
    """In an image whose channels hold the coordinates, a crop's corners tell its area."""
    ramp = np.arange(240, dtype=np.uint8)
    item = save(tmp_path / "ramp.png", np.stack([*np.meshgrid(ramp, ramp), np.zeros((240, 240), np.uint8)], axis=-1))
    crop, areas = mapper(scale=(0.3, 0.6)), []
    for _ in range(300):
        x, y, _ = crop(item)["image"].float()
        areas.append((x.max() - x.min()) / 240 * 16 / 15 * (y.max() - y.min()) / 240 * 16 / 15)
    low, middle, high = np.quantile(areas, [0.02, 0.5, 0.98])
    assert 0.27 < low < 0.33 and 0.42 < middle < 0.48 and 0.57 < high < 0.63


@pytest.mark.parametrize("flip, axis", [("none", None), ("horizontal", 2), ("vertical", 1)])
def test_half_of_the_images_are_flipped(tmp_path, flip, axis):
    item = save(tmp_path / "image.png", noise(np.random.default_rng(0), 16, 16))
    whole = mapper(scale=(1.0, 1.0), flip="none")(item)["image"]  # no other crop than the whole square has its area
    flipped = []
    for _ in range(60):
        image = mapper(scale=(1.0, 1.0), flip=flip)(item)["image"]
        flipped.append(not torch.equal(image, whole))
        assert not flipped[-1] or torch.equal(image, whole.flip(axis))
    assert 15 < sum(flipped) < 45 if axis else sum(flipped) == 0


@pytest.mark.parametrize("format", CHANNELS)
@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16"])
def test_all_kinds_of_images(tmp_path, mode, format):
    pixels = noise(np.random.default_rng(0), 20, 30)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels)
    item = save(tmp_path / "image.tif", image if mode == "I;16" else image.convert(mode))
    sample = mapper(image_format=format)(item)
    assert sample["image"].shape == (CHANNELS[format], 16, 16) and sample["image"].float().std() > 5


def test_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown with its left side up
    item = save(tmp_path / "image.jpg", np.zeros((20, 30, 3), np.uint8), exif=exif)
    sample = mapper()(item)
    assert (sample["height"], sample["width"]) == (30, 20)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 500), (500, 1), (15, 16)])
def test_small_and_thin_images_are_upscaled(tmp_path, size):
    item = save(tmp_path / "image.png", np.full((*size, 3), 77, np.uint8))
    assert (mapper()(item)["image"] == 77).all()


def fail(item):
    raise InputError(f"{item['file_name']} can't be read.")


def test_replacements_are_drawn_from_the_whole_data_set():
    dataset = [{"file_name": str(number)} for number in range(100)]

    def read(item):
        return dict(item) if int(item["file_name"]) < 50 else fail(item)

    samples = [SampleStream(dataset, SkippingMapper(read, dataset), 0)[position] for position in range(100)]
    replaced = [sample for sample in samples if sample["skipped"]]
    assert len(replaced) == 50 and len({sample["file_name"] for sample in replaced}) > 20


def test_other_errors_are_not_passed_over():
    with pytest.raises(ZeroDivisionError):
        SkippingMapper(lambda item: 1 / 0, [{"file_name": "a"}])({"file_name": "a"})
