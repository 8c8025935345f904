"""Operations are those of formulas, and every figure reaches table and files."""

import json
import runpy
import sys
from collections import Counter

import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference import operations
from reference.small import AUTOENCODER, DETECTOR, ENCODER, SHAPE, autoencoder_cfg, detector_cfg

from convmae_det import precision
from convmae_det.cli import analyze
from convmae_det.errors import InputError
from convmae_det.inference.export import quiet

MANY = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
SFP = (
    *("MODEL.BACKBONE.NAME", "build_convmae_sfp_backbone"),
    *("MODEL.CONVMAE.OUT_FEATURES", ["e3"]),
    *("MODEL.CONVMAE.RELATIVE_POSITION", "decomposed"),
)
NETWORKS = {
    "FPN": detector_cfg(*MANY),
    "simple feature pyramid": detector_cfg(*MANY, *SFP),
    "cascade": detector_cfg(
        *MANY, "MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True
    ),
    "pretraining": autoencoder_cfg(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_those_of_the_formulas(name):
    """Heads, whose operations depend on what is found, are those of their layers' shapes in the same pass."""
    run = analyze.Pass(NETWORKS[name], 64, batch_size=1, train=False)
    grid = (4, 4)
    if name == "pretraining":
        expected = operations.autoencoder(grid, dict(dim=16, depth=1), **SHAPE)
    else:
        windows, decomposed = [(3, 0), None, (3, 1)], name == "simple feature pyramid"
        expected = operations.encoder(grid=grid, windows=windows, decomposed=decomposed, **SHAPE)
        with operations.layers(run.model) as layers:
            run()
        parts = Counter()
        for layer, number in layers.items():
            parts[analyze.part_of(layer)] += number
        heads = {"feature pyramid", "region proposals", "box head", "mask head"}
        assert heads <= parts.keys()
        expected += Counter({part: parts[part] for part in heads})
    assert run.operations() == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_has_its_part(name):
    model = build_model(NETWORKS[name])
    parts = analyze.parameters(model)
    assert analyze.REST not in parts
    assert sum(parts.values()) == sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def folder(tmp_path, monkeypatch, python):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", python)  # of the process that measures memory
    (tmp_path / "detector.yaml").write_text("VERSION: 2\n")
    return tmp_path


def run(*words: str, settings=ENCODER + DETECTOR) -> None:
    with quiet():
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
    seen, build = set(), analyze.build_model
    monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: True)
    monkeypatch.setattr(analyze, "peak_memory", lambda *_: 1)
    monkeypatch.setattr(analyze.Pass, "operations", lambda self: Counter(box=1))

    def watched(cfg):
        model = build(cfg)
        model.roi_heads.box_head.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
        return model

    monkeypatch.setattr(analyze, "build_model", watched)
    mixed = ("SOLVER.AMP.ENABLED", True)
    run(*words, "--sizes", "64", "--repeats", "1", "--json", "costs.json", settings=ENCODER + DETECTOR + mixed)
    assert seen == {torch.bfloat16}
    expected = "bfloat16, which this processor has (SOLVER.AMP.DTYPE auto)"
    assert f"Precision: {expected}" in capsys.readouterr().out
    assert json.loads((folder / "costs.json").read_text())["precision"] == expected


def test_pretraining_is_measured(folder, capsys):
    run("--repeats", "1", "--sizes", "32", settings=ENCODER + AUTOENCODER)
    assert "decoder" in capsys.readouterr().out


def test_the_default_sizes_end_with_that_of_the_configuration():
    assert analyze.default_sizes(detector_cfg("MODEL.CONVMAE.IMAGE_SIZE", 1024)) == [512, 768, 1024]
    assert analyze.default_sizes(detector_cfg("MODEL.CONVMAE.IMAGE_SIZE", 128)) == [64, 96, 128]
    assert analyze.default_sizes(autoencoder_cfg("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 224))[-1] == 224


def test_operations_of_the_convolution_stages_grow_with_the_area():
    small, large = (analyze.Pass(detector_cfg(), size, 1, train=False).operations() for size in (64, 96))
    assert large["stage 1"] == 2.25 * small["stage 1"] and large["stage 2"] == 2.25 * small["stage 2"]


def test_cost_per_pixel():
    first = {"size": 64, "seconds": 1.0, "operations": {"a": 10, "b": 20}}
    row = {"size": 128, "seconds": 6.0, "operations": {"a": 100, "b": 140}}
    assert analyze.cost_per_pixel(row, first) == (1.5, 2.0)
    assert analyze.cost_per_pixel(first, first) == (1, 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--sizes", "16"], "--sizes holds 16"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--output", "costs.jpg"], r"end in \.png"),
        (["--sizes", "96", "MODEL.CONVMAE.SQUARE_PAD", "64"], "--sizes holds 96, but MODEL.CONVMAE.SQUARE_PAD is 64"),
    ],
)
def test_what_is_wrong_is_said(folder, words, sentence):
    with pytest.raises(InputError, match=sentence):
        run(*words)


def test_the_sentence_of_the_process_that_measures_memory_is_passed_on(folder):
    with pytest.raises(InputError, match="images of 40 pixels can't be run: an image of 40×40 pixels can't be masked"):
        run("--sizes", "40", settings=ENCODER + AUTOENCODER)


def test_the_script_ends_with_the_sentence(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["analyze.py", "--config-file", "none.yaml"])
    with pytest.raises(SystemExit, match="^error: none.yaml"):
        runpy.run_path(analyze.__file__, run_name="__main__")
