"""Adapters are trained in place of the encoder, resumed exactly, and merged in all that a run writes for use."""

import importlib.util
import re
from collections.abc import Iterator

import pytest
import torch
from detectron2.utils.events import EventStorage
from engine.test_trainer import DATA, make_cfg, shapes, train, weights  # noqa: F401
from reference.small import annotated_image, assert_near, autoencoder_cfg, classifier_cfg, detector_cfg, segmentor_cfg
from torch import nn

from convmae_det.checkpoint.adapters import merge_adapters
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.config.checks.training import check_classification, check_fine_tuning, check_pretraining
from convmae_det.engine.adapters import add_adapters
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.start import build_model_to_train
from convmae_det.errors import InputError
from convmae_det.inference.model import build_model, build_trained_model

LORA = ("SOLVER.LORA_RANK", 2)


def move_adapters(model: nn.Module) -> nn.Module:
    """As after a training: what starts at zero has values."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_()
    return model


def list_trained(model: nn.Module) -> Iterator[str]:
    return (
        name.partition("encoder.")[2] for name, p in model.named_parameters() if "encoder" in name and p.requires_grad
    )


KINDS = {
    "shared tables": detector_cfg(*LORA),
    "two stages frozen": detector_cfg(*LORA, "MODEL.CONVMAE.FREEZE_STAGES", 2),
    "decomposed": detector_cfg(*LORA, "MODEL.CONVMAE.RELATIVE_POSITION", "decomposed"),
    "recomputed activations": detector_cfg(*LORA, "MODEL.CONVMAE.ACTIVATION_CHECKPOINT", True),
    "UPerNet": segmentor_cfg(*LORA),
    "classifier": classifier_cfg(*LORA),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_merged_model_computes_what_the_adapted_does(name):
    cfg = KINDS[name]
    adapted = move_adapters(build_model_to_train(cfg)).eval()
    merged = build_model(cfg).eval()
    merged.load_state_dict(merge_adapters(adapted.state_dict()))  # the same names, all of them
    encoders = [next(part for key, part in it.named_modules() if key.endswith("encoder")) for it in (adapted, merged)]
    with torch.no_grad():
        ours, theirs = (encoder(torch.ones(1, 3, 64, 64)) for encoder in encoders)
    for one, other in zip(ours, theirs, strict=True):
        assert_near(one, other, 1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_adapters_and_relative_positions_alone_are_trained_of_the_encoder(name):
    trained = set(list_trained(build_model_to_train(KINDS[name])))
    table = re.compile(r"stage3\.((local|global)_bias\.table|block_biases\.\d\.table|blocks\.\d\.attn\.rel_pos_[hw])")
    adapter = re.compile(r"stage(\d)\.blocks\.\d\..+\.lora_[AB]\.default\.weight")
    stages = {found[1] for word in trained if (found := adapter.fullmatch(word))}
    assert stages == ({"3"} if name == "two stages frozen" else {"1", "2", "3"})
    others = {word for word in trained if not adapter.fullmatch(word)}
    assert all(table.fullmatch(word) for word in others)
    assert bool(others) == (name != "classifier")


def test_every_adapter_gets_a_gradient():
    cfg = KINDS["two stages frozen"]
    model = move_adapters(build_model_to_train(cfg)).train()
    with EventStorage():
        sum(model([annotated_image()]).values()).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad and "lora" in name}
    assert len(trained) == 2 * 3 * 4 and all(p.grad is not None and p.grad.any() for p in trained.values())
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_frozen_stages_keep_nothing_for_the_backward_pass():
    kept = {}
    for stages in (0, 1, 2, 3):
        model = build_model(detector_cfg("MODEL.CONVMAE.FREEZE_STAGES", stages)).train()
        seen = {}

        def keep(tensor, seen=seen):
            seen[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = model.backbone.bottom_up(torch.ones(1, 3, 64, 64))
        assert features["e3"].requires_grad == (stages < 3)
        kept[stages] = sum(seen.values())
    assert kept[0] > kept[1] > kept[2] > kept[3] == 0


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights to begin with, of a detector without relative positions."""
    path = tmp_path_factory.mktemp("start") / "start.pth"
    state = build_model(detector_cfg("MODEL.CONVMAE.RELATIVE_POSITION", "none")).state_dict()
    torch.save({"model": state}, path)
    return path


def test_a_run_with_adapters(make_cfg, start, tmp_path):  # noqa: F811
    """It is resumed exactly, leaves the weights to begin with as they were, and its files are those of any run."""
    options = (*LORA, "MODEL.WEIGHTS", str(start), "SOLVER.BASE_LR", 0.01, "SOLVER.EMA.DECAY", 0.5)
    whole, _ = train(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    train(make_cfg(*options), stop_after=1)
    resumed, _ = train(make_cfg(*options), resume=True)
    final = weights(resumed)
    assert all(torch.equal(value, final[name]) for name, value in weights(whole).items())
    averages = [run._trainer.average.state_dict() for run in (whole, resumed)]
    assert all(torch.equal(value, averages[1][name]) for name, value in averages[0].items())
    begun = torch.load(start, weights_only=True)["model"]
    bases = {name: value for name, value in final.items() if ".base_layer." in name}
    assert bases and all(torch.equal(value, begun[name.replace(".base_layer.", ".")]) for name, value in bases.items())
    assert all(value.any() for name, value in final.items() if ".lora_B." in name)

    cfg = make_cfg(*options)
    names = build_model(cfg).state_dict().keys()
    for file in ("model_0000001", "model_final", "model_final_ema"):
        path = tmp_path / f"out/{file}.pth"
        assert read_checkpoint(path)["model"].keys() == names
    merged = merge_adapters(final)
    used = build_trained_model(cfg, str(tmp_path / "out/model_final.pth")).state_dict()
    assert all(torch.equal(value, merged[name]) for name, value in used.items())
    again = DetectionTrainer(
        make_cfg("SOLVER.MAX_ITER", 1, *LORA, "MODEL.WEIGHTS", str(tmp_path / "out/model_final.pth"))
    )
    again.resume_or_load(resume=False)  # a new run begins with the merged weights
    assert all(torch.equal(value, merged[name]) for name, value in merge_adapters(weights(again)).items())

    with pytest.raises(InputError, match="trained other parameters"):
        DetectionTrainer(make_cfg("SOLVER.EMA.DECAY", 0.5)).resume_or_load(resume=True)


def test_a_run_without_adapters_is_not_resumed_with_them(make_cfg):  # noqa: F811
    train(make_cfg("SOLVER.MAX_ITER", 1))
    with pytest.raises(InputError, match="model_final.pth is of another model than its configuration.*lora_A"):
        DetectionTrainer(make_cfg(*LORA)).resume_or_load(resume=True)


@pytest.mark.parametrize(
    "check, cfg, must",
    [
        (check_fine_tuning, detector_cfg("SOLVER.LORA_RANK", -1), "be at least 0"),
        (check_pretraining, autoencoder_cfg(*LORA), "be 0 in pretraining"),
        (check_classification, classifier_cfg(*LORA, "MODEL.CLASSIFIER.PROBE", True), "be 0 with MODEL.CLASSIFIER"),
        (check_fine_tuning, detector_cfg(*LORA, "MODEL.CONVMAE.FREEZE_STAGES", 3), "be 0 with MODEL.CONVMAE.FREEZE"),
    ],
)
def test_adapters_without_a_use_are_refused(check, cfg, must):
    with pytest.raises(InputError, match=rf"SOLVER\.LORA_RANK is -?\d; it must {re.escape(must)}"):
        check(cfg, 1)


def test_a_missing_peft_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(InputError, match="SOLVER.LORA_RANK is 2, but peft is not installed: run pip install peft"):
        check_fine_tuning(detector_cfg(*LORA), 1)


def test_a_frozen_encoder_has_no_place_for_adapters():
    encoder = build_model(detector_cfg()).backbone.bottom_up.encoder.requires_grad_(False)
    with pytest.raises(InputError, match="the encoder is frozen"):
        add_adapters(encoder, 2)
