"""convmae-det stats: exact statistics of data of any kind and number of channels."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from reference.small import classifier_cfg

from convmae_det.cli import stats
from convmae_det.config.checks.data import check_channels
from convmae_det.data.configuration import read_config
from convmae_det.errors import InputError

BANDS = ["INPUT.FORMAT", "bands"]
pytestmark = pytest.mark.usefixtures("catalog")


def write_arrays(folder, channels, dtype=np.uint8, white=255):
    folder.mkdir()
    generator = np.random.default_rng(channels)
    arrays = [generator.integers(0, white + 1, (20 + 7 * n, 30, channels)).astype(dtype) for n in range(3)]
    for number, array in enumerate(arrays):
        np.save(folder / f"{number}.npy", array)
    return np.concatenate([array.reshape(-1, channels) for array in arrays])


def expect(values):
    values = values.astype(np.float64)
    return {"PIXEL_MEAN": values.mean(0).round(3).tolist(), "PIXEL_STD": values.std(0).round(3).tolist()}


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_they_are_those_of_all_pixels(tmp_path, capsys, channels):
    """And what is written can be the base of a configuration."""
    values = write_arrays(tmp_path / "images", channels)
    output = tmp_path / "statistics.yaml"
    assert stats.main([str(tmp_path / "images"), *BANDS, "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed) == {"MODEL": expect(values), "INPUT": {"FORMAT": "bands"}}
    assert output.read_text() == printed
    (tmp_path / "mine.yaml").write_text("_BASE_: statistics.yaml\nMODEL: {META_ARCHITECTURE: MaskedAutoencoder}\n")
    cfg = read_config(str(tmp_path / "mine.yaml"))
    check_channels(cfg)
    assert cfg.MODEL.PIXEL_MEAN == expect(values)["PIXEL_MEAN"]


def test_wide_values_are_scaled_as_in_training(tmp_path, capsys):
    values = write_arrays(tmp_path / "images", 4, np.uint16, 4095)
    assert stats.main([str(tmp_path / "images"), *BANDS]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert found == {"MODEL": expect(values >> 4), "INPUT": {"FORMAT": "bands", "WHITE_LEVEL": 4095}}


def test_planes_need_their_number(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    planes = np.random.default_rng(0).integers(0, 256, (5, 20, 30)).astype(np.uint8)
    np.save(tmp_path / "images/a.npy", planes)
    assert stats.main([str(tmp_path / "images"), *BANDS, "--channels", "5"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["MODEL"] == expect(planes.reshape(5, -1).T)


def test_what_can_not_be_counted_is_named(tmp_path, capsys):
    values = write_arrays(tmp_path / "images", 3)
    np.save(tmp_path / "images/z.npy", np.zeros((4, 4, 6), np.uint8))
    (tmp_path / "images/y.tif").write_bytes(b"no image")
    assert stats.main([str(tmp_path / "images"), *BANDS]) == 1
    out, said = capsys.readouterr()
    assert yaml.safe_load(out)["MODEL"] == expect(values)
    assert "z.npy has 6 channels, but images before it have 3" in said and "y.tif can't be read" in said
    assert "of 3 of 5 images" in said


@pytest.mark.parametrize("kind", ["annotations", "classes", "configuration", "folder"])
def test_other_data(tmp_path, capsys, kind):
    """And a channel that is the same everywhere."""
    for name in ("red", "blue"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 4), name).save(tmp_path / "photos" / name / "a.png")
    images = [{"id": n, "file_name": f"{n}/a.png", "height": 4, "width": 8} for n in ("red", "blue")]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    cfg = classifier_cfg("DATASETS.CLASS_FOLDERS", [["mine", str(tmp_path / "photos")]])
    cfg.merge_from_list(["DATASETS.TRAIN", ("mine",), "DATASETS.TEST", (), "DATASETS.CATEGORIES", []])
    (tmp_path / "classes.yaml").write_text(cfg.dump())
    photos = str(tmp_path / "photos")
    words = {
        "annotations": [str(tmp_path / "a.json"), photos],
        "classes": [photos, "--classes"],
        "configuration": ["--config-file", f"{tmp_path}/classes.yaml"],
        "folder": [photos, "--max-images", "2"],
    }
    assert stats.main(words[kind]) == 0
    out, said = capsys.readouterr()
    assert yaml.safe_load(out)["MODEL"] == {"PIXEL_MEAN": [127.5, 0.0, 127.5], "PIXEL_STD": [127.5, 1.0, 127.5]}
    assert "same value in channel 1" in said and "of 2 of 2 images" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "There is nothing to look at"),
        (["nowhere"], "nowhere"),
        (["empty"], "holds no images"),
        (["broken"], "none of 1 images could be read; the first: .*a.png can't be read"),
        (["broken", "--output", "missing/a.yaml"], "--output missing/a.yaml can't be written"),
        (["broken", "--output", "broken"], "--output broken is a folder"),
        (["broken", "--channels", "3"], "--channels has no effect unless INPUT.FORMAT is bands"),
        (["broken", "--max-images", "-1"], "--max-images is -1"),
        (["broken", "INPUT.FORMAT", "CMYK"], "INPUT.FORMAT is 'CMYK'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=sentence):
        stats.main(words)
