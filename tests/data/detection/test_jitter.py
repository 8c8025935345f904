"""Large-scale jitter: sizes and scales are those of the keys, and objects move with their pixels."""

import numpy as np
import pytest
from detectron2.data import transforms as T
from detectron2.structures.masks import polygons_to_bitmask
from hypothesis import given, settings
from hypothesis import strategies as st

from convmae_det.data.detection.jitter import build_augmentations
from convmae_det.errors import InputError

sides = st.integers(1, 300)


def augment(cfg, image, is_train=True):
    augmented = T.AugInput(image)
    transforms = T.AugmentationList(build_augmentations(cfg, is_train))(augmented)
    return augmented.image, transforms


@settings(max_examples=40)
@given(height=sides, width=sides, size=st.integers(8, 200), scales=st.tuples(*[st.floats(0.1, 2)] * 2), seed=sides)
def test_images_are_scaled_into_the_square_and_cropped(cfg, height, width, size, scales, seed):
    cfg.INPUT.LSJ.IMAGE_SIZE = size
    cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE = low, high = sorted(scales)
    np.random.seed(seed)
    image, transforms = augment(cfg, np.zeros((height, width, 3), dtype=np.uint8))
    resize = next(t for t in transforms.transforms if isinstance(t, T.ResizeTransform))
    longest, shortest = max(resize.new_h, resize.new_w), min(resize.new_h, resize.new_w)
    assert round(low * size) - 1 <= longest <= round(high * size) + 1
    assert abs(shortest - longest * min(height, width) / max(height, width)) <= 1  # the proportions are kept
    assert image.shape == (min(size, resize.new_h), min(size, resize.new_w), 3)


def test_scales_and_crops_cover_their_range(cfg):
    np.random.seed(0)
    sizes, corners = [], []
    for _ in range(200):
        _, transforms = augment(cfg, np.zeros((50, 50, 3), dtype=np.uint8))
        resize, crop, *_ = transforms.transforms
        sizes.append(resize.new_w / 64)
        corners.append(crop.x0 / max(1, resize.new_w - 64))
    assert min(sizes) < 0.15 and max(sizes) > 1.95 and np.mean(sizes) == pytest.approx(1.05, abs=0.1)
    assert min(corners) == 0 and max(corners) > 0.9


POLYGONS = [[20, 10, 90, 25, 70, 80, 15, 60], [80, 60, 115, 60, 115, 95, 80, 95]]


@pytest.mark.parametrize("seed", range(12))
def test_objects_move_with_their_pixels(cfg, seed):
    """An image whose pixels show a polygon still shows it where the moved polygon, cropped, is rasterised."""
    cfg.INPUT.LSJ.MIN_SCALE = 0.5
    cfg.INPUT.LSJ.IMAGE_SIZE = 128
    height, width = 100, 120
    shown = polygons_to_bitmask(POLYGONS, height, width)
    np.random.seed(seed)
    image, transforms = augment(cfg, np.repeat(shown[..., None] * np.uint8(255), 3, axis=-1))
    moved = transforms.apply_polygons([np.array(polygon, dtype=float).reshape(-1, 2) for polygon in POLYGONS])
    expected = polygons_to_bitmask([polygon.ravel() for polygon in moved], *image.shape[:2])
    differing = expected != (image[..., 0] > 127)
    outline = sum(np.abs(np.diff(expected.astype(int), axis=axis)).sum() for axis in (0, 1))
    assert expected.any() and differing.sum() <= 0.4 * outline  # pixels that the outline cuts


@pytest.mark.parametrize("lsj", [True, False])
def test_half_of_the_images_are_flipped_with_their_boxes(cfg, lsj):
    cfg.INPUT.LSJ.ENABLED = lsj
    cfg.INPUT.LSJ.MIN_SCALE = cfg.INPUT.LSJ.MAX_SCALE = 1.0
    cfg.INPUT.MIN_SIZE_TRAIN = cfg.INPUT.MIN_SIZE_TRAIN if lsj else (64,)
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[10:20, 5:30] = 255
    np.random.seed(0)
    flips = 0
    for _ in range(60):
        pixels, transforms = augment(cfg, image.copy())
        x0, y0, x1, y1 = transforms.apply_box(np.array([[5.0, 10, 30, 20]]))[0].astype(int)
        assert pixels[y0:y1, x0:x1].min() == 255 and (pixels > 0).sum() == 3 * 250
        flips += x0 != 5
    assert 20 <= flips <= 40


def test_no_flip(cfg):
    cfg.INPUT.RANDOM_FLIP = "none"
    assert not any(isinstance(a, T.RandomFlip) for a in build_augmentations(cfg, True))


def test_test_time_resizes_only(cfg):
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 96
    assert augment(cfg, np.zeros((50, 60, 3), dtype=np.uint8), False)[0].shape == (64, 77, 3)
    assert augment(cfg, np.zeros((50, 200, 3), dtype=np.uint8), False)[0].shape == (24, 96, 3)
    cfg.INPUT.MIN_SIZE_TEST = 0
    assert augment(cfg, np.zeros((50, 60, 3), dtype=np.uint8), False)[0].shape == (50, 60, 3)


@pytest.mark.parametrize("options", [(True, True), (True, False), (False, False)], ids=str)
def test_the_thinnest_image_keeps_a_pixel(cfg, options):
    is_train, cfg.INPUT.LSJ.ENABLED = options
    if not cfg.INPUT.LSJ.ENABLED:
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (16,), 32
    cfg.INPUT.MIN_SIZE_TEST = cfg.INPUT.MAX_SIZE_TEST = 32
    for shape in ((1, 900, 3), (900, 1, 3)):
        height, width, _ = augment(cfg, np.zeros(shape, dtype=np.uint8), is_train)[0].shape
        assert min(height, width) == 1 and max(height, width) > 1


def test_without_jitter_the_sizes_and_crop_of_detectron2_hold(cfg):
    cfg.INPUT.LSJ.ENABLED = False
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    assert augment(cfg, np.zeros((60, 60, 3), dtype=np.uint8))[0].shape == (48, 48, 3)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "relative", [0.5, 1.0]
    assert augment(cfg, np.zeros((60, 60, 3), dtype=np.uint8))[0].shape == (48, 96, 3)


@pytest.mark.parametrize(
    "key, value",
    [
        ("LSJ.IMAGE_SIZE", 0),
        ("LSJ.IMAGE_SIZE", -64),
        ("LSJ.MIN_SCALE", 0.0),
        ("LSJ.MIN_SCALE", 3.0),
        ("LSJ.MAX_SCALE", float("inf")),
        ("LSJ.MAX_SCALE", float("nan")),
        ("RANDOM_FLIP", "sideways"),
        ("MIN_SIZE_TRAIN", (0, 5)),
        ("MIN_SIZE_TRAIN", ()),
        ("MAX_SIZE_TRAIN", -1),
        ("MIN_SIZE_TRAIN_SAMPLING", "some"),
        ("CROP.TYPE", "round"),
        ("CROP.SIZE", [0.5, 1.5]),
    ],
)
def test_values_out_of_range_are_named(cfg, key, value):
    cfg.merge_from_list([f"INPUT.{key}", value])
    with pytest.raises(InputError, match=f"INPUT.{key} is"):
        build_augmentations(cfg, True)


@pytest.mark.parametrize("key, value", [("MIN_SIZE_TEST", -1), ("MAX_SIZE_TEST", 0)])
def test_test_time_values_out_of_range_are_named(cfg, key, value):
    cfg.merge_from_list([f"INPUT.{key}", value])
    build_augmentations(cfg, True)
    with pytest.raises(InputError, match=f"INPUT.{key} is"):
        build_augmentations(cfg, False)


def test_a_range_of_sizes_has_two_ends(cfg):
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (64, 32), "range"
    with pytest.raises(InputError, match=r"INPUT.MIN_SIZE_TRAIN is \(64, 32\); it must be the smallest and"):
        build_augmentations(cfg, True)
