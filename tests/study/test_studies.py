"""The studies that are shipped can be started, where the data are that they name."""

import json
from pathlib import Path

import pytest
from PIL import Image

from convmae_det.config.reading import read_plain_yaml
from convmae_det.study.reading import read_study

STUDIES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"))
ANNOTATIONS = ("my_data/annotations/instances_train.json", "my_data/annotations/instances_val.json")
ANNOTATIONS += ("datasets/bccd_trainval.json", "datasets/bccd_test.json")
IMAGES = ("my_data/train", "my_data/val", "datasets/bccd/JPEGImages")
CLASSES = ("datasets/cifar10/train", "datasets/cifar10/test", "datasets/imagenet/train", "datasets/imagenet/val")


@pytest.fixture
def data(tmp_path, monkeypatch, catalog):
    """An image in each data set."""
    monkeypatch.chdir(tmp_path)
    for folder in (*IMAGES, *(f"{folder}/{name}" for folder in CLASSES for name in "ab")):
        Path(folder).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(f"{folder}/a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 32}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 4, "bbox": [1, 1, 2, 2]}],
    }
    for path in ANNOTATIONS:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(content))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_it_can_be_started(path, data):
    study = read_study(str(path))
    runs = study.list_runs(Path("out"))
    assert len({run.folder for run in runs}) == len(runs)
    assert [variant.name for variant in study.variants] == [
        entry["name"] for entry in read_plain_yaml(path)["variants"]
    ]


def test_they_are_named_as_the_projects_own(data):
    assert read_study("convmae_det://studies/pays.yaml").variants
