"""What users do with a trained classifier: predict, export, convert, look at its data."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from reference.colours import build_colours_cfg, write_colours
from reference.small import randomise

from convmae_det import create_encoder
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.cli import analyze, convert, export, predict, visualize
from convmae_det.errors import InputError
from convmae_det.inference.class_predictor import ClassPredictor
from convmae_det.inference.export.tracing import DESCRIPTION
from convmae_det.inference.model import build_model
from convmae_det.inference.predictor import Predictor


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The data of the colours, a classifier's configuration and its weights, as a run leaves them."""
    place = tmp_path_factory.mktemp("classifier")
    cfg = build_colours_cfg(write_colours(place / "colours"), place)
    torch.manual_seed(0)
    torch.save({"model": randomise(build_model(cfg)).state_dict()}, place / "model.pth")
    (place / "config.yaml").write_text(cfg.dump())
    return place


@pytest.fixture
def files(place):
    return ["--config-file", str(place / "config.yaml"), "--weights", str(place / "model.pth")]


def test_prediction_is_that_of_evaluation(place, files, tmp_path, capsys):
    (place / "colours/test/broken.png").write_bytes(b"none")
    out = tmp_path / "out"
    assert predict.main([*files, "--output", str(out), "--batch-size", "2", str(place / "colours/test")]) == 1
    (place / "colours/test/broken.png").unlink()
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 and rows[0].keys() == {"path", "class", "score", "class_2", "score_2", "class_3", "score_3"}
    predictor = ClassPredictor(place / "config.yaml", place / "model.pth", "cpu")
    for row in rows:
        (scores,) = predictor([str(place / "colours/test" / row["path"])])
        assert row["class"] == predictor.class_names[scores.argmax()]
        assert float(row["score"]) == pytest.approx(scores.max().item(), abs=1e-5)
        with Image.open(out / row["path"].replace(".png", ".jpg")) as picture:
            assert picture.width >= 384 and picture.height > picture.width * 36 / 40
    assert "broken.png can't be read" in capsys.readouterr().err and (out / "overview.png").is_file()


def test_tables_of_others_stay(place, files, tmp_path):
    words = [*files, "--no-pictures", str(place / "colours/test")]
    (tmp_path / "results.csv").write_text("path,label\n")
    with pytest.raises(InputError, match=r"holds results\.csv, which predict didn't write"):
        predict.main([*words, "--output", str(tmp_path)])
    assert (tmp_path / "results.csv").read_text() == "path,label\n"
    for _ in range(2):  # its own results it replaces
        assert predict.main([*words, "--output", str(tmp_path / "own")]) == 0


def test_options_of_detectors_are_refused(place, files, tmp_path):
    words = ["--output", str(tmp_path / "out"), str(place / "colours/test")]
    for option in (["--score-threshold", "0.5"], ["--max-frames", "3"]):
        with pytest.raises(InputError, match=f"^{option[0]} is for detectors"):
            predict.main([*files, *option, *words])
    with pytest.raises(InputError, match="describes a classifier"):
        Predictor(place / "config.yaml", place / "model.pth", "cpu")


def test_torchscript_gives_the_same(place, files, tmp_path):
    image = str(place / "colours/test/red/0.png")
    export.main([*files, "--format", "torchscript", "--image", image, "--output", str(tmp_path / "c.pt")])
    extra = {DESCRIPTION: ""}
    network = torch.jit.load(tmp_path / "c.pt", _extra_files=extra)
    about = json.loads(extra[DESCRIPTION])
    assert about["classes"] == ["blue", "green", "red"] and about["size"] == 32 and about["resized"] == 36
    predictor = ClassPredictor(place / "config.yaml", place / "model.pth", "cpu")
    (scores,) = network(predictor.prepare(image)[None])
    torch.testing.assert_close(scores, predictor([image]), rtol=1e-4, atol=1e-5)


def test_onnx_is_compared(place, files, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    image = str(place / "colours/test/red/0.png")
    export.main([*files, "--format", "onnx", "--image", image, "--output", str(tmp_path / "c.onnx")])
    told = capsys.readouterr().out
    assert "32×32 pixels: largest difference of scores" in told and "32×16 pixels" in told


def test_conversion_both_ways(place, tmp_path):
    official, back = str(tmp_path / "official.pth"), str(tmp_path / "back.pth")
    convert.main([str(place / "model.pth"), official, "--to", "official"])
    convert.main([official, back, "--config-file", str(place / "config.yaml")])
    ours, again = (read_checkpoint(path)["model"] for path in (place / "model.pth", back))
    assert "head.weight" in read_checkpoint(official)["model"] and ours.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in ours.items())


def test_its_encoder_gives_features(place):
    images = torch.randn(1, 3, 32, 32)
    features = create_encoder(pretrained=str(place / "model.pth"), config=place / "config.yaml")(images)
    model = ClassPredictor(place / "config.yaml", place / "model.pth", "cpu").model
    with torch.no_grad():
        torch.testing.assert_close(features["e3"], model.encoder(images)[2].permute(0, 3, 1, 2))


def test_its_data_are_drawn(place, tmp_path):
    for split in ("train", "test"):
        path = tmp_path / f"{split}.png"
        visualize.main(["--config-file", str(place / "config.yaml"), "--split", split, "--output", str(path)])
        with Image.open(path) as picture:
            assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 100


def test_its_costs_are_measured(place, capsys):
    analyze.main(["--config-file", str(place / "config.yaml"), "--sizes", "32", "--repeats", "1", "--train"])
    assert "stage 3" in capsys.readouterr().out
