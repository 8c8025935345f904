"""`convmae-det probe`: from a checkpoint and labelled images to a line and a report."""

import json
import re

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import autoencoder_cfg

from convmae_det.cli import probe
from convmae_det.cli.main import main
from convmae_det.errors import InputError

COLOURS = {"blue": (20, 30, 200), "red": (210, 40, 30)}
WEIGHTS = ("--weights", "mae.pth", "--workers", "0")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place with a checkpoint, and images of two colours in two parts, which is the current folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    cfg = autoencoder_cfg()
    torch.save({"model": build_model(cfg).state_dict()}, "mae.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    generator = np.random.default_rng(0)
    for part, count in {"train": 12, "test": 5}.items():
        for name, colour in COLOURS.items():
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(-20, 20, (24, 30, 3))
                Image.fromarray((noise + colour).clip(0, 255).astype(np.uint8)).save(f"{part}/{name}/{number}.png")
    return tmp_path


def run(*words, weights=WEIGHTS):
    probe.main([*weights, *words])


@pytest.mark.parametrize("features", ["e3", "all"])
def test_colours_are_told_apart(folder, capsys, features):
    run("--train", "train", "--test", "test", "--features", features, "--output", "probe.json")
    *_, line = capsys.readouterr().out.splitlines()
    found = re.fullmatch(r"k-NN top-1 100.00, linear top-1 100.00, rank (\d+\.\d)", line)
    report = json.loads((folder / "probe.json").read_text())
    assert f"{report['rank']:.1f}" == found[1]
    assert report["knn_top1"] == report["linear_top1"] == 100
    assert report["images"] == {"train": 24, "test": 10} and report["classes"] == ["blue", "red"]
    assert report["size"] == 64 and report["features"] == features and report["skipped"] == []


def test_a_table_and_random_weights(folder, capsys):
    rows = [f"train/{name}/{number}.png,{name}" for name in COLOURS for number in range(12)]
    (folder / "train.csv").write_text("\n".join(["path,label", *rows]))
    words = ("--train", "train.csv", "--test", "test", "--size", "32")
    run(*words, weights=("--weights", "none", "--config-file", "config.yaml", "--workers", "0"))
    assert "top-1 100.00" in capsys.readouterr().out


def test_images_of_both_parts_are_counted(folder, caplog):
    run("--train", "train", "--test", "test")
    assert "too" not in caplog.text
    run("--train", "train", "--test", "train")
    assert "24 of 24 images of train are in train, too" in caplog.text


def test_the_encoder_of_a_classifier(folder, capsys):
    cfg = autoencoder_cfg("MODEL.META_ARCHITECTURE", "ImageClassifier", "MODEL.CLASSIFIER.NUM_CLASSES", 3)
    torch.save({"model": build_model(cfg).state_dict()}, "mae.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    run("--train", "train", "--test", "test", "--size", "64")
    assert "top-1 100.00" in capsys.readouterr().out


def test_images_of_bands(folder, capsys):
    bands = ("INPUT.FORMAT", "bands", "MODEL.PIXEL_MEAN", [80.0] * 5, "MODEL.PIXEL_STD", [60.0] * 5)
    cfg = autoencoder_cfg(*bands)
    torch.save({"model": build_model(cfg).state_dict()}, "mae.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    for file in sorted(folder.glob("t*/*/*.png")):
        with Image.open(file) as image:
            pixels = np.asarray(image)
        np.save(file.with_suffix(".npy"), pixels[..., [0, 1, 2, 0, 1]])
        file.unlink()
    run("--train", "train", "--test", "test")
    assert "top-1 100.00" in capsys.readouterr().out


def test_damaged_files_are_named_and_left_out(folder, capsys):
    (folder / "train/red/3.png").write_bytes(b"no image")
    (folder / "test/blue/9.jpg").write_bytes(b"no image")
    run("--train", "train", "--test", "test", "--output", "probe.json")
    said = capsys.readouterr().err
    assert re.search(r"red/3.png is left out: it can't be read", said) and "blue/9.jpg is left out" in said
    report = json.loads((folder / "probe.json").read_text())
    assert report["images"] == {"train": 23, "test": 10} and len(report["skipped"]) == 2


def test_a_part_without_an_image_that_can_be_read(folder):
    for file in (folder / "test").rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of 10 images can be read; the first, .*blue/0.png, can't be read"):
        run("--train", "train", "--test", "test")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--train", "none", "--test", "test"], "none doesn't exist"),
        (["--train", "train/red", "--test", "test"], "no folders of classes"),
        (["--train", "train", "--test", "test", "--output", "none/a.json"], "its folder doesn't exist"),
        (["--train", "train", "--test", "test", "--output", "train"], "--output train is a folder"),
        (["--train", "train", "--test", "test", "--workers", "-1"], "--workers is -1; it must be at least 0"),
        (["--train", "train", "--test", "test", "--size", "20"], "--size is 20"),
        (["--train", "train", "--test", "test", "--weights", "none"], "--config-file"),
        (["--train", "train", "--test", "test", "--weights", "gone.pth"], "gone.pth"),
    ],
)
def test_what_is_wrong_is_said(folder, words, sentence):
    with pytest.raises(InputError, match=sentence):
        run(*words)


def test_the_command_ends_with_the_sentence(folder, capsys):
    (folder / "test/green").mkdir()
    Image.new("RGB", (20, 20)).save("test/green/1.png")
    assert main(["probe", *WEIGHTS, "--train", "train", "--test", "test"]) == 1
    assert "\nerror: test has images of green, not among the 2 classes" in f"\n{capsys.readouterr().err}"
