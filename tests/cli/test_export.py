"""The command writes a file only after it has been compared with eager mode."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import DETECTOR, ENCODER, assert_near, autoencoder_cfg, detector_cfg, randomise

from convmae_det import create_encoder
from convmae_det.cli import export as command
from convmae_det.cli.main import main
from convmae_det.errors import InputError
from convmae_det.inference.export import torchscript
from convmae_det.inference.export.onnx import build_onnx_runner
from convmae_det.inference.export.tracing import DESCRIPTION, suppress_tracing_warnings

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
    with suppress_tracing_warnings():
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
        extra = {DESCRIPTION: ""}
        torch.jit.load("detector.out", _extra_files=extra)
        text = extra[DESCRIPTION]
    assert json.loads(text)["classes"] == ["cat", "dog", "cow", "hen"]


def test_a_file_that_differs_is_not_written(folder, monkeypatch, capsys):
    """As it would be if the trace had fixed what depends on the image."""
    honest = torchscript.build_torchscript_runner

    def dishonest(content, device):
        network = honest(content, device)
        return lambda image: [output + (output.ndim == 1) * 0.01 for output in network(image)]

    monkeypatch.setattr(torchscript, "build_torchscript_runner", dishonest)
    (folder / "detector.out").write_text("earlier")
    with pytest.raises(InputError, match="differs from eager mode by more than rounding, so no file is written"):
        run()
    assert "64×51 pixels: 8 detections" in capsys.readouterr().out
    assert (folder / "detector.out").read_text() == "earlier" and len(list(folder.iterdir())) == 4


def test_nothing_to_compare(folder):
    with pytest.raises(InputError, match="nothing is detected in photo.png"):
        run("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.999")
    assert not (folder / "detector.out").exists()


def test_an_encoder_alone_is_no_detector(folder, model):
    encoder = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.bottom_up.")}
    torch.save({"model": encoder}, "encoder.pth")
    with pytest.raises(InputError, match=r"encoder.pth .*lacks \d+ weights"):
        run(weights="encoder.pth")


# --- encoders


def write_run(cfg) -> None:
    """Leaves what a run leaves: model_final.pth, config.yaml beside it; and a photo."""
    torch.manual_seed(0)
    torch.save({"model": randomise(build_model(cfg)).state_dict()}, "model_final.pth")
    Path("config.yaml").write_text(cfg.dump())


def run_encoder(*words: str, format: str = "torchscript") -> None:
    fixed = ["--weights", "model_final.pth", "--image", "photo.png", "--output", "encoder.out"]
    with suppress_tracing_warnings():
        command.main([*fixed, "--format", format, *words])


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
@pytest.mark.parametrize(
    "cfg, words",
    [
        (autoencoder_cfg("INPUT.FORMAT", "BGR"), []),
        (autoencoder_cfg("INPUT.FORMAT", "BGR"), ["--config-file", "config.yaml"]),
        (detector_cfg("INPUT.FORMAT", "BGR"), ["--config-file", "config.yaml", "--encoder"]),
        (detector_cfg("INPUT.FORMAT", "BGR"), ["--encoder"]),
    ],
    ids=["alone", "with its configuration", "of a detector", "of a detector, its configuration beside it"],
)
def test_an_encoder_gives_the_maps_of_create_encoder(folder, capsys, cfg, words, format):
    """At sizes, and in batches, that it was neither traced nor compared at."""
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    write_run(cfg)
    run_encoder(*words, format=format)
    first, second = capsys.readouterr().out.splitlines()[1:3]
    assert first.startswith("280×224 pixels") and second.startswith("279×167 pixels")
    content = Path("encoder.out").read_bytes()
    runner = build_onnx_runner(content) if format == "onnx" else torchscript.build_torchscript_runner(content, "cpu")
    encoder = create_encoder(pretrained="model_final.pth").eval()
    for size in ((1, 3, 33, 31), (2, 3, 64, 64), (3, 3, 1, 97)):
        images = torch.randn(size)
        with torch.no_grad():
            expected = encoder(images)
        assert_near(dict(zip(encoder.strides, runner(images), strict=True)), expected, 1e-4)


def test_the_file_of_an_encoder_says_how_images_are_normalised(folder):
    write_run(autoencoder_cfg("INPUT.FORMAT", "BGR", "MODEL.PIXEL_MEAN", [51.0, 102.0, 153.0]))
    run_encoder()
    extra = {DESCRIPTION: ""}
    torch.jit.load("encoder.out", _extra_files=extra)
    about = json.loads(extra[DESCRIPTION])
    assert about["channels"] == "BGR" and about["mean"] == pytest.approx([0.2, 0.4, 0.6])
    assert about["strides"] == {"e1": 4, "e2": 8, "e3": 16, "e4": 32}


@pytest.mark.parametrize("fault", ["values", "size", "NaN"])
def test_an_encoder_that_differs_is_not_written(folder, monkeypatch, fault):
    """As if the trace had fixed what depends on the size: only the second comparison can tell."""
    write_run(autoencoder_cfg())
    honest = torchscript.build_torchscript_runner

    def dishonest(content, device):
        network = honest(content, device)

        def run(images):
            *maps, last = network(images)
            if len(images) > 1:
                last = {"values": last * 1.01, "size": last[..., 1:], "NaN": last * torch.nan}[fault]
            return [*maps, last]

        return run

    monkeypatch.setattr(torchscript, "build_torchscript_runner", dishonest)
    with pytest.raises(InputError, match="differs from eager mode by more than rounding"):
        run_encoder()
    assert not Path("encoder.out").exists()


def test_a_whole_detector_needs_its_configuration(folder):
    write_run(detector_cfg())
    with pytest.raises(InputError, match="model_final.pth is a detector: .*--config-file.*--encoder"):
        run_encoder()


def test_an_encoder_has_no_settings(folder):
    write_run(autoencoder_cfg())
    with pytest.raises(InputError, match="TEST.DETECTIONS_PER_IMAGE is a setting of a detector"):
        run_encoder("TEST.DETECTIONS_PER_IMAGE", "5")


def test_channels_that_nothing_tells(folder):
    write_run(autoencoder_cfg("MODEL.PIXEL_MEAN", [0.0], "MODEL.PIXEL_STD", [1.0], "INPUT.FORMAT", "L"))
    run_encoder()
    Path("config.yaml").unlink()
    torch.save(create_encoder("tiny", in_channels=1).state_dict(), "model_final.pth")
    with pytest.raises(InputError, match="takes 1 channels, and which ones.*--config-file"):
        run_encoder()


# --- what is missing


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_before_anything_is_read(folder, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"needs the package {package},.*pip install onnx onnxruntime"):
        run(format="onnx", weights="none.pth")


def test_the_command_ends_with_the_sentence(folder, capsys):
    words = ["--config-file", "none.yaml", "--weights", "a", "--format", "onnx", "--image", "b", "--output", "c"]
    assert main(["export", *words]) == 1
    assert capsys.readouterr().err.startswith("error: none.yaml")
