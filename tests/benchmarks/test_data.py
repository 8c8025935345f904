"""The benchmark of the loaders compares like with like."""

import argparse
import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import data
from convmae_det.errors import InputError


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    data.write_images(tmp_path / "images", 3)
    return str(tmp_path / "images")


def arguments(*words):
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args(words)


def test_a_run_gives_its_figures(images, capsys):
    threads = torch.get_num_threads()
    result = json.loads(json.dumps(data.measure(arguments(f"--images={images}", "--count=1"))))
    assert torch.get_num_threads() == threads
    assert result["images"]["count"] == data.BATCH and result["images"]["mean_megapixels"] == pytest.approx(0.1875)
    for figures in result["loaders"].values():
        rates = figures["images_per_second"]
        assert figures["speedup"] == rates[data.OURS] / rates[data.PLAIN] > 0
    data.report(result)
    rate = result["loaders"]["pretraining"]["images_per_second"][data.OURS]
    assert f"{rate:8.1f} images/s" in capsys.readouterr().out


def test_generated_images_are_as_large_as_photographs(images):
    items = data.describe(images, 3)
    assert 50_000 < np.mean([item["bytes"] for item in items]) < 110_000
    assert len(items) == data.BATCH and len({item["file_name"] for item in items}) == 3


def test_both_mappers_make_the_same_of_an_image(images):
    loaders = data.detection_loaders(data.describe(images, 3), data.configuration())
    plain, ours = (next(iter(loaders[form]())) for form in (data.PLAIN, data.OURS))
    for one, other in zip(plain, ours, strict=True):
        assert torch.equal(one["image"], other["image"]) and one["file_name"] == other["file_name"]
        assert torch.equal(one["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)
    assert any(len(sample["instances"]) for sample in ours)


def test_both_pretraining_forms_read_every_image(images):
    loaders = data.pretraining_loaders(data.describe(images, 3), data.configuration())
    plain, ours = (next(iter(loaders[form]())) for form in (data.PLAIN, data.OURS))
    assert plain.shape == (data.BATCH, 3, 224, 224) and plain.dtype == torch.float32
    assert ours["images"].shape == plain.shape and ours["images"].dtype == torch.uint8


def test_damaged_images_are_left_out(tmp_path, capsys):
    (tmp_path / "damaged.jpg").write_bytes(b"damaged")
    with pytest.raises(InputError, match="holds no image that can be read"):
        data.describe(str(tmp_path), 4)
    Image.new("RGB", (20, 10)).save(tmp_path / "good.jpg")
    items = data.describe(str(tmp_path), 4)
    assert {item["file_name"] for item in items} == {str(tmp_path / "good.jpg")}
    assert "left out" in capsys.readouterr().out
