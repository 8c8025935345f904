"""The picture shows what the network gets, with annotations that still fit."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from convmae_det.cli import visualize
from convmae_det.cli.main import main
from convmae_det.errors import InputError
from convmae_det.visualization.sheet import GAP, TITLE_HEIGHT

TOP = GAP + TITLE_HEIGHT
COLOURS = {1: (200, 30, 60), 2: (20, 120, 220)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two images of one colour each, 400 pixels wide, with a white object, and a configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "ant"}]}
    for number, colour in COLOURS.items():
        pixels = np.full((300, 400, 3), colour, dtype=np.uint8)
        pixels[100:200, 250:350] = 255
        Image.fromarray(pixels).save(f"images/{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 400, "height": 300})
        annotation = {"id": number, "image_id": number, "category_id": 7, "iscrowd": 0, "area": 10000}
        outline = [[250, 100, 350, 100, 350, 200, 250, 200]]
        content["annotations"].append(annotation | {"bbox": [250, 100, 100, 100], "segmentation": outline})
    (tmp_path / "ann.json").write_text(json.dumps(content))
    (tmp_path / "config.yaml").write_text(
        "DATASETS:\n  COCO_FORMAT: [[mine, ann.json, images]]\n  TRAIN: [mine]\n  TEST: [mine]\n"
        "INPUT:\n  LSJ: {IMAGE_SIZE: 400, MIN_SCALE: 1.0, MAX_SCALE: 1.0}\n  MIN_SIZE_TEST: 300\n  MAX_SIZE_TEST: 400\n"
    )
    yield tmp_path
    DatasetCatalog.pop("mine", None)
    MetadataCatalog.pop("mine", None)


def run(*words):
    visualize.main(["--config-file", "config.yaml", *words])


def panels(path="data.png"):
    """Left and right of the first row."""
    pixels = np.asarray(Image.open(path))[TOP : TOP + 300]
    return pixels[:, GAP : GAP + 400].astype(int), pixels[:, 2 * GAP + 400 : 2 * GAP + 800].astype(int)


def test_training_images_with_their_objects(folder, capsys):
    run()
    assert capsys.readouterr().out.splitlines() == [
        "2 of 2 images; --max-images and --seed show others.",
        "data.png written",
    ]
    left, right = panels()
    assert tuple(left[250, 20]) in COLOURS.values() and tuple(right[250, 200]) == tuple(left[250, 20])
    assert (left[180, 330] != 255).any()  # a mask lies on the object


def test_flipped_images_have_flipped_objects(folder):
    seen = set()
    for seed in range(6):
        run("--seed", str(seed), "--max-images", "1")
        _, right = panels()
        objects = [(right[190, column] != right[250, 200]).any() for column in (100, 300)]
        assert sum(objects) == 1
        seen.add(tuple(objects))
    assert len(seen) == 2


def test_the_seed_decides(folder):
    pictures = []
    for seed in ("1", "1", "2"):
        run("--seed", seed, "--output", "x.png")
        pictures.append((folder / "x.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize("image_format", ["BGR", "RGBA", "L"])
def test_pixel_formats(folder, image_format):
    channels = {"BGR": 3, "RGBA": 4, "L": 1}[image_format]
    mean = ["INPUT.FORMAT", image_format, "MODEL.PIXEL_MEAN", str([120.0] * channels)]
    run(*mean, "MODEL.PIXEL_STD", str([60.0] * channels), "--split", "test", "--max-images", "1")
    left, right = panels()
    grey = round(left[250, 20] @ np.array([0.299, 0.587, 0.114]))
    expected = [grey] * 3 if image_format == "L" else left[250, 20]
    assert np.abs(right[250, 20] - expected).max() <= 1


def test_test_images_are_not_augmented_and_keep_their_objects(folder):
    run("--split", "test", "--max-images", "1")
    left, right = panels()
    assert np.abs(left - right).mean() < 1


def test_a_file_for_each_image(folder):
    run("--output", "pictures/of/data")
    assert sorted(path.name for path in (folder / "pictures/of/data").iterdir()) == ["0001.png", "0002.png"]


def test_crops_of_pretraining(folder):
    run("MODEL.META_ARCHITECTURE", "MaskedAutoencoder", "MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", "224")
    assert Image.open("data.png").width == 400 + 224 + 3 * GAP


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--max-images", "0"], "--max-images is 0"),
        (["--split", "test", "MODEL.META_ARCHITECTURE", "MaskedAutoencoder"], "pretraining has no test data"),
        (["--split", "test", "DATASETS.TEST", "()"], r"DATASETS.TEST is \[\]; it must name"),
        (["DATASETS.TRAIN", "('unknown',)"], "'unknown' is not registered"),
        (["--output", "ann.json/x"], "can't be made a folder"),
        (["INPUT.FORMAT", "HSV"], "INPUT.FORMAT is 'HSV'"),
    ],
)
def test_what_is_wrong_is_said(folder, words, sentence):
    with pytest.raises(InputError, match=sentence):
        run(*words)


def test_the_command_ends_with_the_sentence(folder, capsys):
    assert main(["visualize", "--config-file", "none.yaml"]) == 1
    assert capsys.readouterr().err.startswith("error: none.yaml")
