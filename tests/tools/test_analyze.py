"""Operations are those of an independent counter and of a count by hand, and every figure reaches table and files."""

import json
import runpy
import sys

import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import AUTOENCODER, DETECTOR, ENCODER, autoencoder_cfg, detector_cfg
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import analyze
from convmae_det.errors import InputError
from convmae_det.export import quiet

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
def test_operations_are_those_that_torch_counts(name):
    with quiet():
        run = analyze.Pass(NETWORKS[name], 64, batch_size=1, train=False)
        parts = run.operations()
        with FlopCounterMode(display=False) as counter:
            run()
    assert sum(parts.values()) == counter.get_total_flops()
    assert min(parts.values()) == 0 and not parts[analyze.OTHER]  # the image's normalisation, say
    expected = {"stage 1", "stage 2", "stage 3"}
    expected |= {"fusion", "decoder"} if name == "pretraining" else {"feature pyramid", "box head", "mask head"}
    assert {part for part, operations in parts.items() if operations} >= expected


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_has_its_part(name):
    model = build_model(NETWORKS[name])
    parts = analyze.parameters(model)
    assert analyze.OTHER not in parts
    assert sum(parts.values()) == sum(parameter.numel() for parameter in model.parameters())


def test_operations_of_base_pretraining():
    """Counted by hand for 224×224: 22.45 GFLOP an image."""
    cfg = autoencoder_cfg()
    cfg.MODEL.CONVMAE.merge_from_list(
        ["EMBED_DIMS", [], "DEPTHS", [], "NUM_HEADS", 0, "MLP_RATIOS", [], "PRETRAIN_IMAGE_SIZE", 224]
    )
    cfg.MODEL.MAE.merge_from_list(["DECODER_EMBED_DIM", 512, "DECODER_DEPTH", 8, "DECODER_NUM_HEADS", 16])
    operations = analyze.Pass(cfg, 224, batch_size=1, train=False).operations()
    assert sum(operations.values()) / 1e9 == pytest.approx(22.45, abs=0.01)


def test_attention_is_counted_by_hand():
    """Two heads, 5 queries and 7 keys of width 3, values of width 4: 2·5·7·(3 + 4) multiply-adds."""

    class Attention(nn.Module):
        def forward(self, query, key, value):
            return nn.functional.scaled_dot_product_attention(query, key, value)

    inputs = (torch.rand(1, 2, 5, 3), torch.rand(1, 2, 7, 3), torch.rand(1, 2, 7, 4))
    counter = analyze.FlopCountAnalysis.__mro__[1](Attention(), inputs)
    counter.set_op_handle("aten::scaled_dot_product_attention", analyze.attention_multiply_adds)
    assert counter.total() == 2 * 5 * 7 * (3 + 4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
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
