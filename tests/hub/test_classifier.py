"""A classifier is published with its classes and accuracy, without paths, and comes back as it was."""

import json

import pytest
import torch
import yaml
from reference.small import classifier_cfg, randomise

import convmae_det
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.hub.publish import FILES, write_folder
from convmae_det.inference.model import build_model

SECRET = "/home/someone/secret"


@pytest.fixture
def run(tmp_path):
    """The folder of a run whose best weights are those after 100 iterations."""
    folder = tmp_path / "run"
    folder.mkdir()
    cfg = classifier_cfg("DATASETS.TRAIN", ("colours",), "DATASETS.TEST", ("colours_test",))
    cfg.DATASETS.CLASS_FOLDERS = [["colours", SECRET], ["colours_test", f"{SECRET}.csv"]]
    (folder / "config.yaml").write_text(cfg.dump())
    best = {"metric": "top1", "value": 87.5, "iterations": 100}
    state = {"model": randomise(build_model(cfg)).state_dict(), "best": best}
    write_checkpoint(state | {"class_names": ["blue", "green", "red"]}, folder / "model_best.pth")
    records = [{"iteration": 49, "top1": 50.0}, {"iteration": 99, "top1": 87.5, "class_mean": 86.25, "ema/top1": 1.0}]
    (folder / "metrics.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_it_comes_back(run, tmp_path):
    write_folder(run, tmp_path / "folder", "someone/colours")
    again = convmae_det.from_pretrained(tmp_path / "folder", device="cpu")
    assert again.class_names == ["blue", "green", "red"]
    image = torch.randint(0, 256, (40, 36, 3), dtype=torch.uint8).numpy()
    original = convmae_det.ClassPredictor(run / "config.yaml", run / "model_best.pth", "cpu")
    assert torch.equal(again([image]), original([image]))
    features = convmae_det.from_pretrained(tmp_path / "folder", encoder=True)(torch.randn(1, 3, 32, 32))
    assert features["e3"].shape == (1, 16, 2, 2)


def test_its_card(run, tmp_path):
    write_folder(run, tmp_path / "folder", "someone/colours")
    card = (tmp_path / "folder/README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "image-classification"
    for text in ("ImageClassifier on a ConvMAE encoder", "blue, green, red", "87.50", "86.25", "colours_test"):
        assert text in card
    assert "1.00" not in card and "50.00" not in card


def test_no_path_is_published(run, tmp_path):
    write_folder(run, tmp_path / "folder", "someone/colours")
    assert not any(SECRET.encode() in (tmp_path / "folder" / name).read_bytes() for name in FILES)
