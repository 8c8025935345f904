"""The example of Ray Data: without Ray a sentence, and what its actors do, which needs none."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convmae_det.errors import InputError


@pytest.fixture
def example():
    path = Path(__file__).parents[2] / "examples/ray_predict.py"
    spec = importlib.util.spec_from_file_location("ray_predict", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def predictor(example, monkeypatch):
    """A detector that finds one object in each image that is there."""

    class Finder:
        def __init__(self, *arguments, pairs):
            self.arguments = arguments

        def __call__(self, path):
            if not Path(path).exists():
                raise InputError(f"{path} doesn't exist")
            return path

        def to_coco(self, instances, image_id):
            return [{"image_id": image_id, "score": 0.5}]

    monkeypatch.setattr(example, "Predictor", Finder)
    return Finder


def test_without_ray_it_says_what_to_install(example, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert example.main(["config.yaml", "model.pth", str(tmp_path), "found"]) == 1
    assert capsys.readouterr().err == "error: Ray is not installed: pip install 'ray[data]'\n"


def test_a_batch_keeps_its_order_and_survives_a_broken_image(example, predictor, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    detector = example.Detector("config.yaml", "model.pth")
    assert detector.predictor.arguments == ("config.yaml", "model.pth")
    paths = np.array([str(tmp_path / "none.png"), str(tmp_path / "a.png")])
    found = detector({"path": paths})
    assert list(found["path"]) == list(paths) and "doesn't exist" in found["problem"][0]
    assert json.loads(found["objects"][0]) == [] and found["problem"][1] == ""
    assert json.loads(found["objects"][1]) == [{"image_id": str(paths[1]), "score": 0.5}]
