"""Every figure reaches table and files, in the precision and in the process that it belongs to."""

import json
import sys
from collections import Counter

import pytest
import torch
from PIL import Image
from reference.small import AUTOENCODER, DETECTOR, ENCODER

from convmae_det import precision
from convmae_det.cli import analyze
from convmae_det.cli.main import main
from convmae_det.costs import network
from convmae_det.engine import start
from convmae_det.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch, python):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", python)  # of the process that measures memory
    (tmp_path / "detector.yaml").write_text("VERSION: 2\n")
    return tmp_path


def run(*words: str, settings=ENCODER + DETECTOR) -> None:
    analyze.main(["--config-file", "detector.yaml", *words, *map(str, settings)])


def test_a_detector_is_measured_in_training(folder, capsys):
    run("--sizes", "64", "--train", "--repeats", "1", "--output", "costs.png", "--json", "costs.json")
    output = capsys.readouterr().out
    result = json.loads((folder / "costs.json").read_text())
    (row,) = result["sizes"]
    assert row["size"] == 64 and row["seconds"] > 0 and row["memory"] > 0 and "64×64" in output
    assert f"{sum(result['parameters'].values()) / 1e6:.2f}" in next(
        line for line in output.splitlines() if line.startswith("total")
    )
    with Image.open("costs.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(2**24)) > 50


@pytest.mark.parametrize("words", [[], ["--train"]])
def test_passes_have_the_precision_of_the_configuration(folder, capsys, monkeypatch, words):
    seen, build = set(), network.build_model
    monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: True)
    monkeypatch.setattr(network, "measure_peak_memory", lambda *_: 1)
    monkeypatch.setattr(network.Pass, "count_operations", lambda self: Counter(box=1))

    def watched(cfg):
        model = build(cfg)
        model.roi_heads.box_head.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
        return model

    monkeypatch.setattr(network, "build_model", watched)
    monkeypatch.setattr(start, "build_model", watched)
    mixed = ("SOLVER.AMP.ENABLED", True)
    run(*words, "--sizes", "64", "--repeats", "1", "--json", "costs.json", settings=ENCODER + DETECTOR + mixed)
    assert seen == {torch.bfloat16}
    expected = "bfloat16, which this processor has (SOLVER.AMP.DTYPE auto)"
    assert f"Precision: {expected}" in capsys.readouterr().out
    assert json.loads((folder / "costs.json").read_text())["precision"] == expected


def test_pretraining_is_measured(folder, capsys):
    run("--repeats", "1", "--sizes", "32", settings=ENCODER + AUTOENCODER)
    assert "decoder" in capsys.readouterr().out


def test_the_bounds_of_a_card_are_counted_without_it(folder, capsys):
    run("--gpu", "T4", "--train", "--batch-size", "2", "--json", "bounds.json", settings=ENCODER + AUTOENCODER)
    output = capsys.readouterr().out
    result = json.loads((folder / "bounds.json").read_text())
    (row,) = result["sizes"]
    assert "Bounds of NVIDIA T4 (65 TFLOP/s in float16" in output and "optimizer step, batch 2" in output
    assert row["size"] == 64 and f"{row['images_per_second']:.0f}" in output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--sizes", "16"], "--sizes holds 16"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--output", "costs.jpg"], r"end in \.png"),
        (["--output", "costs.png", "--gpu", "T4"], "--gpu measures nothing"),
        (["--sizes", "96", "MODEL.CONVMAE.SQUARE_PAD", "64"], "--sizes holds 96, but MODEL.CONVMAE.SQUARE_PAD is 64"),
    ],
)
def test_what_is_wrong_is_said(folder, words, sentence):
    with pytest.raises(InputError, match=sentence):
        run(*words)


def test_the_sentence_of_the_process_that_measures_memory_is_passed_on(folder):
    with pytest.raises(InputError, match="images of 40 pixels can't be run: an image of 40×40 pixels can't be masked"):
        run("--sizes", "40", settings=ENCODER + AUTOENCODER)


def test_the_command_ends_with_the_sentence(folder, capsys):
    assert main(["analyze", "--config-file", "none.yaml"]) == 1
    assert capsys.readouterr().err.startswith("error: none.yaml")
