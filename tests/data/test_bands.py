"""Images of any number of bands, from TIFF and .npy, reach pretraining and detection as they are."""

import numpy as np
import pytest
import tifffile
import torch
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage
from PIL import Image
from reference.small import autoencoder_cfg, detector_cfg

from convmae_det.config.checks.data import BANDS, check_channels, check_test_time_augmentation
from convmae_det.data.detection.jitter import BandwiseResizeTransform
from convmae_det.data.detection.mapper import DetectionMapper
from convmae_det.data.image import Decoding, make_visible, read_image, read_visible
from convmae_det.data.pretraining.mapper import PretrainingMapper
from convmae_det.errors import InputError
from convmae_det.inference.pictures import load_pixels, load_visible
from convmae_det.visualization.reconstructions import convert_to_rgb

HEIGHT, WIDTH = 40, 50


def keys(bands):
    mean = ["MODEL.PIXEL_MEAN", [120.0] * bands, "MODEL.PIXEL_STD", [60.0] * bands]
    return ["INPUT.FORMAT", BANDS, *mean]


def noise(bands, dtype=np.uint8, white=255):
    return np.random.default_rng(bands).integers(0, white + 1, (HEIGHT, WIDTH, bands)).astype(dtype)


def write_contiguous(path, pixels):
    tifffile.imwrite(path, pixels, planarconfig="contig", photometric="minisblack")


def write_planes(path, pixels):
    tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), planarconfig="separate", photometric="minisblack")


def write_pages(path, pixels):
    tifffile.imwrite(path, np.moveaxis(pixels, 2, 0), photometric="minisblack")


def write_array(path, pixels):
    np.save(path, pixels)


def write_planes_of_array(path, pixels):
    np.save(path, np.moveaxis(pixels, 2, 0))


WRITERS = {
    "samples.tif": write_contiguous,
    "planes.tif": write_planes,
    "pages.TIFF": write_pages,
    "array.npy": write_array,
    "planes.npy": write_planes_of_array,
}


@pytest.mark.parametrize("bands", [2, 4, 5, 13])
@pytest.mark.parametrize("name", WRITERS)
def test_all_bands_are_read(tmp_path, bands, name):
    path, pixels = tmp_path / name, noise(bands)
    WRITERS[name](path, pixels)
    read = read_image(path, BANDS, Decoding(bands=bands))
    assert np.array_equal(read, pixels) and read.flags.writeable and read.flags.c_contiguous
    assert np.array_equal(read_visible(path, BANDS, Decoding(bands=bands)), make_visible(pixels, BANDS))


@pytest.mark.parametrize("name", WRITERS)
def test_wide_bands_are_scaled_by_the_white_level(tmp_path, name):
    path, pixels = tmp_path / name, noise(6, np.uint16, 4095)
    WRITERS[name](path, pixels)
    assert np.array_equal(read_image(path, BANDS, Decoding(white_level=4095, bands=6)), pixels >> 4)


@pytest.mark.parametrize("mode, bands", [("L", 1), ("LA", 2), ("RGB", 3), ("P", 3), ("RGBA", 4), ("1", 1)])
def test_other_files_have_their_own_channels(tmp_path, mode, bands):
    Image.fromarray(noise(3)).convert(mode).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", BANDS, Decoding(bands=bands)).shape == (HEIGHT, WIDTH, bands)


@pytest.mark.parametrize("name", WRITERS)
def test_another_number_of_bands_is_named(tmp_path, name):
    WRITERS[name](tmp_path / name, noise(6))
    sentence = rf"{name} can't be read as an image \(it has \d+ bands, but MODEL.PIXEL_MEAN has 5 entries"
    with pytest.raises(InputError, match=sentence):
        read_image(tmp_path / name, BANDS, Decoding(bands=5))


@pytest.mark.parametrize("bands, format", [(1, "L"), (3, "RGB"), (3, "BGR"), (4, "RGBA")])
def test_an_array_of_few_bands_is_an_image(tmp_path, bands, format):
    np.save(tmp_path / "a.npy", noise(bands))
    expected = noise(bands)[..., :: -1 if format == "BGR" else 1]
    assert np.array_equal(read_image(tmp_path / "a.npy", format), expected)
    np.save(tmp_path / "b.npy", noise(5))
    with pytest.raises(InputError, match=r"b\.npy.*5 bands, for which INPUT.FORMAT must be bands"):
        read_image(tmp_path / "b.npy", format)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3, 4, 5), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((0, 4, 5), np.uint16),
        np.full((4, 4, 5), "x"),
        np.full((4, 4, 5), -1),
        np.full((4, 4, 5), np.nan),
        np.array([{}], dtype=object),
    ],
    ids=str,
)
def test_what_is_no_image_is_named(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=r"a\.npy can't be read as an image"):
        read_image(tmp_path / "a.npy", BANDS, Decoding(bands=5))


def test_a_large_array_is_named_before_it_is_read(tmp_path):
    for name, write in WRITERS.items():
        write(tmp_path / name, noise(5))
        with pytest.raises(InputError, match=rf"{name} is too large .*INPUT.MAX_PIXELS 1999.*INPUT.MAX_PIXELS 2000"):
            read_image(tmp_path / name, BANDS, Decoding(bands=5, max_pixels=1999))
        assert read_image(tmp_path / name, BANDS, Decoding(bands=5, max_pixels=2000)).size


@pytest.mark.parametrize("name", WRITERS)
def test_pretraining(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, noise(5))
    cfg = autoencoder_cfg(*keys(5))
    sample = PretrainingMapper(cfg)({"file_name": str(path), "image_id": 0})
    assert sample["image"].shape == (5, 64, 64) and (sample["height"], sample["width"]) == (HEIGHT, WIDTH)
    loss = build_model(cfg)([sample, sample])
    assert all(torch.isfinite(value).all() for value in loss.values())


@pytest.mark.parametrize("jitter", [True, False])
def test_detection(tmp_path, jitter):
    path = tmp_path / "a.tif"
    write_contiguous(path, noise(5))
    cfg = detector_cfg(*keys(5), "INPUT.LSJ.ENABLED", jitter)
    corners = [5, 5, 35, 5, 35, 30, 5, 30]
    item = {"file_name": str(path), "image_id": 1, "height": HEIGHT, "width": WIDTH}
    item["annotations"] = [
        {"bbox": [5, 5, 30, 25], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "segmentation": [corners]}
    ]
    model = build_model(cfg)
    sample = DetectionMapper(cfg, True)(item)
    assert sample["image"].shape[0] == 5 and sample["image"].dtype == torch.uint8
    with EventStorage():
        assert all(torch.isfinite(value) for value in model([sample]).values())
    test = DetectionMapper(cfg, False)(item)
    assert test["image"].shape[0] == 5
    assert model.eval()([test])[0]["instances"].image_size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("bands", [1, 2, 4, 7])
def test_each_band_is_resized_as_if_alone(bands):
    pixels = noise(bands)
    resized = BandwiseResizeTransform(HEIGHT, WIDTH, 23, 71).apply_image(pixels)
    alone = [
        np.asarray(Image.fromarray(np.ascontiguousarray(band)).resize((71, 23), Image.Resampling.BILINEAR))
        for band in np.moveaxis(pixels, 2, 0)
    ]
    assert np.array_equal(resized, np.stack(alone, axis=2))


def test_prediction_takes_arrays_of_bands():
    assert np.array_equal(load_pixels(noise(5), BANDS, Decoding(bands=5)), noise(5))
    with pytest.raises(InputError, match="it has 5 bands, but MODEL.PIXEL_MEAN has 6"):
        load_pixels(noise(5), BANDS, Decoding(bands=6))


def test_chosen_bands_are_shown(tmp_path):
    path, pixels = tmp_path / "a.npy", noise(5)
    np.save(path, pixels)
    for shown, expected in (([4, 0, 2], [4, 0, 2]), ([3], [3, 3, 3]), ([], [0, 1, 2]), ([1, 2, 3], [1, 2, 3])):
        cfg = autoencoder_cfg(*keys(5), "INPUT.SHOWN_BANDS", shown)
        decoding = Decoding.from_config(cfg)
        check_channels(cfg)
        for visible in (read_visible(path, BANDS, decoding), load_visible(pixels, BANDS, decoding)):
            assert np.array_equal(visible, pixels[..., expected])
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        assert np.array_equal(convert_to_rgb(tensor, BANDS, shown)[0], pixels[..., expected])
    assert np.array_equal(
        load_visible(pixels[..., :2], BANDS, Decoding(bands=5, shown=(4, 0, 2)))[..., 1], pixels[..., 0]
    )


def test_runs_of_earlier_versions_have_no_shown_bands():
    cfg = autoencoder_cfg(*keys(5))
    del cfg.INPUT["SHOWN_BANDS"]
    assert Decoding.from_config(cfg).shown == ()


@pytest.mark.parametrize("shown", [[5, 0, 1], [-1], [0, 1], [0.0], [True], ["a"]])
def test_bands_that_can_not_be_shown(shown):
    with pytest.raises(InputError, match="INPUT.SHOWN_BANDS is .*be one band or three, counted from 0, of the 5"):
        check_channels(autoencoder_cfg(*keys(5), "INPUT.SHOWN_BANDS", shown))
    with pytest.raises(InputError, match="INPUT.SHOWN_BANDS is .*be empty unless INPUT.FORMAT is bands"):
        check_channels(autoencoder_cfg("INPUT.SHOWN_BANDS", shown))


def test_keys_that_do_not_go_together():
    check_channels(autoencoder_cfg(*keys(7)))
    with pytest.raises(InputError, match=r"MODEL.PIXEL_STD is .*; it must have as many numbers"):
        check_channels(autoencoder_cfg(*keys(7), "MODEL.PIXEL_STD", [1.0]))
    with pytest.raises(InputError, match="INPUT.ALL_PAGES is True; it must be False where INPUT.FORMAT is bands"):
        check_channels(autoencoder_cfg(*keys(7), "INPUT.ALL_PAGES", True))
    with pytest.raises(InputError, match="VIS_PERIOD is 5; it must be 0 where INPUT.FORMAT is bands"):
        DetectionMapper(detector_cfg(*keys(7), "VIS_PERIOD", 5), True)
    with pytest.raises(InputError, match="TEST.AUG.ENABLED is True; it must be False where INPUT.FORMAT is bands"):
        check_test_time_augmentation(detector_cfg(*keys(7), "TEST.AUG.ENABLED", True))
