"""The command writes a file only after its detections have been compared with those of eager mode."""

import json
import sys

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import DETECTOR, ENCODER, detector_cfg

from convmae_det.cli import export as command
from convmae_det.cli.main import main
from convmae_det.errors import InputError
from convmae_det.inference import export

SETTINGS = [str(word) for word in ENCODER + DETECTOR]
SETTINGS += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "8"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(detector_cfg())


@pytest.fixture
def folder(tmp_path, model, monkeypatch):
    """The current folder, with a configuration, a checkpoint and an image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(
        "DATASETS:\n  TRAIN: []\n  TEST: []\n  CATEGORIES: [[7, cat], [90, dog], [91, cow], [92, hen]]\n"
    )
    torch.save({"model": model.state_dict()}, "detector.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    return tmp_path


def run(*words: str, format: str = "torchscript", weights: str = "detector.pth", output: str = "detector.out") -> None:
    options = {"--config-file": "config.yaml", "--weights": weights, "--format": format, "--output": output}
    with export.suppress_tracing_warnings():
        command.main([*(word for pair in options.items() for word in pair), "--image", "photo.png", *SETTINGS, *words])


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
def test_a_file_is_compared_and_written(folder, capsys, format):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    run(format=format)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" pixels: ")[0] for line in lines[1:3]] == ["64×51", "64×38"]
    assert all("8 detections in eager mode, 8 in the file, 8 of the same class" in line for line in lines[1:3])
    assert lines[3].startswith("detector.out written") and len(list(folder.iterdir())) == 4

    if format == "onnx":
        import onnx

        (entry,) = onnx.load("detector.out").metadata_props
        text = entry.value
    else:
        extra = {export.DESCRIPTION: ""}
        torch.jit.load("detector.out", _extra_files=extra)
        text = extra[export.DESCRIPTION]
    assert json.loads(text)["classes"] == ["cat", "dog", "cow", "hen"]


def test_a_file_that_differs_is_not_written(folder, monkeypatch, capsys):
    """As it would be if the trace had fixed what depends on the image."""
    honest = export.build_torchscript_runner

    def dishonest(content, device):
        network = honest(content, device)
        return lambda image: [output + (output.ndim == 1) * 0.01 for output in network(image)]

    monkeypatch.setattr(export, "build_torchscript_runner", dishonest)
    (folder / "detector.out").write_text("earlier")
    with pytest.raises(InputError, match="differs from eager mode by more than rounding, so no file is written"):
        run()
    assert "64×51 pixels: 8 detections" in capsys.readouterr().out
    assert (folder / "detector.out").read_text() == "earlier" and len(list(folder.iterdir())) == 4


def test_nothing_to_compare(folder):
    with pytest.raises(InputError, match="nothing is detected in photo.png"):
        run("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.999")
    assert not (folder / "detector.out").exists()


def test_an_encoder_alone_is_refused(folder, model):
    encoder = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.bottom_up.")}
    torch.save({"model": encoder}, "encoder.pth")
    with pytest.raises(InputError, match=r"encoder.pth .*lacks \d+ weights"):
        run(weights="encoder.pth")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_before_anything_is_read(folder, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"needs the package {package},.*pip install onnx onnxruntime"):
        run(format="onnx", weights="none.pth")


def test_the_command_ends_with_the_sentence(folder, capsys):
    words = ["--config-file", "none.yaml", "--weights", "a", "--format", "onnx", "--image", "b", "--output", "c"]
    assert main(["export", *words]) == 1
    assert capsys.readouterr().err.startswith("error: none.yaml")
