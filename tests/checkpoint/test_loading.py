"""Weights go into a model completely or not at all, and the report says what became of each."""

import logging
import re

import pytest
import torch
from detectron2.modeling import build_backbone, build_model

from convmae_det.checkpoint import load_weights
from convmae_det.checkpoint.conversion import to_official, to_ours
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.errors import InputError

IN_FPN = "backbone.bottom_up.encoder."
LIKE_DET = dict(IMAGE_SIZE=256, WINDOW_SIZE=8, WINDOW_SHIFT=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def randomise(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def save_official_detector(model, path, prefix="backbone.bottom_up."):
    write_checkpoint({"model": to_official(model.state_dict(), prefix)}, path)


# --- what goes where


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_our_checkpoints_load_back(pretraining_config, config, tmp_path, prefix, ending):
    for cfg in (pretraining_config(ARCH="tiny"), config(ARCH="tiny", IMAGE_SIZE=64)):
        model, other, path = randomise(build_model(cfg)), build_model(cfg), tmp_path / f"weights.{ending}"
        write_checkpoint(
            {"model": {prefix + name: tensor for name, tensor in model.state_dict().items()}, "iteration": 3}, path
        )
        report = load_weights(other, path)
        assert_equal(state(other), state(model))
        assert not report.new and not report.resized and list(report.left_out) == ["iteration"]


@pytest.mark.parametrize("builder, prefix", [("fpn", "bottom_up."), ("sfp", "net."), ("bare", "")])
def test_pretraining_goes_into_every_detector(pretraining_config, config, path, builder, prefix):
    pretrained = randomise(build_model(pretraining_config(ARCH="tiny")))
    write_checkpoint({"model": pretrained.state_dict(), "optimizer": {}}, path)
    cfg = config(ARCH="tiny", IMAGE_SIZE=256, GLOBAL_BLOCKS=[0, 3])
    cfg.MODEL.BACKBONE.NAME = "build_convmae_backbone" if builder == "bare" else f"build_convmae_{builder}_backbone"
    model = build_backbone(cfg) if builder == "bare" else build_model(cfg)
    inside = f"{prefix}encoder." if builder == "bare" else f"backbone.{prefix}encoder."
    report = load_weights(model, path)
    loaded = {name.removeprefix(inside): t for name, t in state(model).items() if name.startswith(inside)}
    for name, tensor in pretrained.encoder.state_dict().items():
        if not name.startswith(("norm.", "stage3.position")):
            assert torch.equal(loaded[name], tensor), name
    assert report.resized == {f"{inside}stage3.position_embedding.table": ((1, 14, 14, 128), (1, 16, 16, 128))}
    assert all("starts at zero" in report.new[f"{inside}stage3.{kind}_bias.table"] for kind in ("local", "global"))
    assert {"optimizer", f"{inside}norm.weight", "decoder.mask_token", "fusion.heads.0.bias"} <= report.left_out.keys()


def test_every_weight_and_parameter_is_in_the_report(golden, config):
    model = build_model(config(**LIKE_DET))
    file = read_checkpoint(golden / "handoff_window8_pretrain_checkpoint.pth")
    report = load_weights(model, golden / "handoff_window8_pretrain_checkpoint.pth")
    assert {*report.matched, *report.resized, *report.new} == set(model.state_dict())
    assert len(report.matched) + len(report.resized) + len(report.left_out) == len(file["model"]) + len(file) - 1


def test_a_bias_that_the_file_lacks_starts_at_zero(golden, config):
    model = randomise(build_model(config(**LIKE_DET)))
    load_weights(model, golden / "handoff_window8_pretrain_checkpoint.pth")
    assert not model.backbone.bottom_up.encoder.stage3.local_bias.table.any()
    assert not model.backbone.bottom_up.encoder.stage3.global_bias.table.any()


def test_tables_of_another_size_are_resized(golden, config):
    model = build_model(config(IMAGE_SIZE=192, WINDOW_SIZE=7))
    report = load_weights(model, golden / "det_window8_checkpoint.pth")
    stage3 = f"{IN_FPN}stage3."
    assert report.resized == {
        f"{stage3}position_embedding.table": ((1, 16, 16, 48), (1, 12, 12, 48)),
        f"{stage3}global_bias.table": ((4, 31, 31), (4, 23, 23)),
        f"{stage3}local_bias.table": ((4, 15, 15), (4, 13, 13)),
    }
    saved = read_checkpoint(golden / "det_window8_checkpoint.pth")["model"]
    table = saved["backbone.bottom_up.windowed_rel_pos_bias.relative_position_bias_table"].T.view(4, 15, 15)
    assert torch.equal(model.state_dict()[f"{stage3}local_bias.table"], table[:, 1:-1, 1:-1])


def test_decomposed_tables_of_another_size_are_resized(golden, config):
    keys = dict(WINDOW_SHIFT=False, GLOBAL_BLOCKS=[1, 4, 7, 10], RELATIVE_POSITION="decomposed", WINDOW_SIZE=7)
    model = build_model(config(IMAGE_SIZE=256, **keys))
    report = load_weights(model, golden / "vitdet_window7_checkpoint.pth")
    assert set(report.resized.values()) == {((27, 12), (31, 12))} and len(report.resized) == 8


def test_a_detector_goes_into_pretraining(golden, pretraining_config):
    """Its decoder is new then, and with it the norm before the decoder; the fixed position table takes its grid."""
    model = build_model(pretraining_config(DEPTHS=[2, 2, 11]))
    report = load_weights(model, golden / "det_window8_checkpoint.pth")
    saved = read_checkpoint(golden / "det_window8_checkpoint.pth")["model"]["backbone.bottom_up.pos_embed"]
    assert torch.equal(model.encoder.stage3.position_embedding.table, saved.view(1, 16, 16, 48))
    assert all(name.startswith(("encoder.norm.", "decoder.", "fusion.")) for name in report.new)
    assert len(report.new) == len([n for n in model.state_dict() if n.startswith(("encoder.norm", "dec", "fus"))])


def test_pretraining_takes_the_grid_of_the_file(golden, pretraining_config):
    file = golden / "mae_tiny_checkpoint.pth"
    model, other = build_model(pretraining_config()), build_model(pretraining_config(PRETRAIN_IMAGE_SIZE=64))
    load_weights(model, file)
    assert not load_weights(other, file).left_out.keys() - {"args", "epoch", "optimizer", "scaler"}
    assert_equal(state(other), state(model))


def test_classifiers_and_encoders_go_into_pretraining(golden, pretraining_config, path):
    published = read_checkpoint(golden / "mae_tiny_checkpoint.pth")["model"]
    encoder = {name: t for name, t in published.items() if "decode" not in name and name != "mask_token"}
    model = build_model(pretraining_config())
    write_checkpoint({"model": encoder}, path)
    report = load_weights(model, path)
    assert "encoder.norm.weight" in report.matched and report.new and not report.left_out
    classifier = {name: tensor for name, tensor in encoder.items() if not name.startswith("norm.")}
    classifier |= {"fc_norm.weight": torch.ones(48), "head.weight": torch.ones(1000, 48), "head.bias": torch.ones(1000)}
    write_checkpoint({"model": classifier}, path)
    report = load_weights(model, path)
    assert "encoder.norm.weight" in report.new
    assert set(report.left_out.values()) == {"the classifier's head"} and len(report.left_out) == 3


def test_without_multi_scale_decoder_the_fusion_is_left_out(golden, pretraining_config):
    cfg = pretraining_config()
    cfg.MODEL.MAE.MULTI_SCALE_DECODER = False
    report = load_weights(build_model(cfg), golden / "mae_tiny_checkpoint.pth")
    assert report.left_out["fusion.heads.0.weight"] == "MODEL.MAE.MULTI_SCALE_DECODER is False"


def test_the_first_detector_gives_its_encoder_to_a_simple_pyramid(config, path):
    save_official_detector(randomise(build_model(config(ARCH="tiny", IMAGE_SIZE=64))), path)
    cfg = config(ARCH="tiny", IMAGE_SIZE=64)
    cfg.MODEL.BACKBONE.NAME = "build_convmae_sfp_backbone"
    report = load_weights(build_model(cfg), path)
    assert "backbone.simfp_2.0.weight" in report.new
    assert report.left_out["backbone.fpn_lateral2.weight"] == "the model has no such layer"
    assert "roi_heads.box_head.fc1.weight" in report.matched


def test_another_number_of_classes_leaves_the_class_layers_new(config, path):
    save_official_detector(randomise(build_model(config(ARCH="tiny", IMAGE_SIZE=64))), path)
    cfg = config(ARCH="tiny", IMAGE_SIZE=64)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    model = build_model(cfg)
    report = load_weights(model, path)
    layers = ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_head.predictor")
    names = {f"roi_heads.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert set(report.new) == names == {name for name, reason in report.left_out.items() if "classes" in reason}
    assert len(report.matched) == len(model.state_dict()) - len(names)


def test_classes_of_retinanet_cascade_and_panoptic_fpn(config, path):
    def build(architecture, classes):
        cfg = config(ARCH="tiny", IMAGE_SIZE=64)
        cfg.MODEL.META_ARCHITECTURE = architecture if architecture != "Cascade" else "GeneralizedRCNN"
        cfg.MODEL.RETINANET.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
        if architecture == "Cascade":
            cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = "CascadeROIHeads", True
        if architecture == "RetinaNet":
            cfg.MODEL.FPN.IN_FEATURES = ["e2", "e3", "e4"]
        return build_model(cfg)

    for architecture, layer in [("RetinaNet", "head.cls_score"), ("Cascade", "box_predictor.1.cls_score"),
                                ("PanopticFPN", "sem_seg_head.predictor")]:  # fmt: skip
        write_checkpoint({"model": build(architecture, 7).state_dict()}, path)
        report = load_weights(build(architecture, 5), path)
        assert any(f"{layer}.weight" in name for name in report.new)
        assert not load_weights(build(architecture, 7), path).new


def test_the_heads_of_a_cascade_are_no_heads_of_mask_rcnn(config, path):
    """They have other names: the box heads are new, the rest is taken."""
    save_official_detector(randomise(build_model(config(ARCH="tiny", IMAGE_SIZE=64))), path)
    cfg = config(ARCH="tiny", IMAGE_SIZE=64)
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = "CascadeROIHeads", True
    report = load_weights(build_model(cfg), path)
    assert "roi_heads.box_head.0.fc1.weight" in report.new and "roi_heads.mask_head.predictor.weight" in report.matched
    assert "roi_heads.box_head.fc1.weight" in report.left_out


# --- what is refused


def refused(model, path, *patterns):
    """Loading raises an InputError that has all `patterns`, and changes nothing."""
    before = state(model)
    with pytest.raises(InputError) as refusal:
        load_weights(model, path)
    assert_equal(state(model), before)
    for pattern in patterns:
        assert pattern in str(refusal.value)
    return str(refusal.value)


def listed(message):
    """The lines of a complaint, one for each parameter."""
    for line in message.splitlines()[1:]:
        shared = re.search(r"\{(.*)\}", line)
        for run in shared[1].split(",") if shared else [""]:
            first, _, last = run.partition("-")
            for index in range(int(first), int(last or first) + 1) if shared else [""]:
                yield re.sub(r"\{.*\}", str(index), line).strip()


def test_every_missing_and_misshapen_encoder_parameter_is_listed(golden, config, path):
    tensors = read_checkpoint(golden / "det_window8_checkpoint.pth")["model"]
    wrong = [name for name in sorted(tensors) if "norm" in name][::7]
    for turn, name in enumerate(wrong):
        tensors[name] = torch.zeros(5)
        if turn % 2:
            del tensors[name]
    write_checkpoint({"model": tensors}, path)
    message = refused(build_model(config(**LIKE_DET)), path, str(path), f"because of {len(wrong)} parameters")
    ours = list(to_ours(dict.fromkeys(wrong, torch.zeros(5)), "backbone.bottom_up."))
    expected = {f"{name}: {'not' if turn % 2 else '5'} in the file" for turn, name in enumerate(ours)}
    assert {line.partition(",")[0] for line in listed(message)} == expected


def test_an_encoder_with_more_blocks_than_the_model_is_refused(golden, config):
    model = build_model(config(**LIKE_DET | dict(DEPTHS=[2, 2, 10])))
    refused(model, golden / "det_window8_checkpoint.pth", "not in the model", "MODEL.CONVMAE.DEPTHS to [2, 2, 11]")


def test_the_preset_of_the_file_is_told(config, tmp_path):
    small = build_model(config(ARCH="small", DEPTHS=[2, 2, 11], IMAGE_SIZE=64))
    write_checkpoint({"model": small.backbone.bottom_up.state_dict()}, tmp_path / "small.pth")
    message = refused(
        build_model(config(ARCH="tiny")), tmp_path / "small.pth",
        "the file's encoder is small (widths 128 256 384, depths 2 2 11", "the model's is tiny", "ARCH to small",
    )  # fmt: skip
    assert "blocks.{4-10}.attn.qkv.weight: not in the model" in message


@pytest.mark.parametrize("channels", [1, 4])
def test_input_channels_name_the_pixel_statistics(golden, config, channels):
    cfg = config(**LIKE_DET)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0] * channels, [1.0] * channels
    refused(
        build_model(cfg), golden / "det_window8_checkpoint.pth",
        f"takes 3 channels, the model's {channels}: give MODEL.PIXEL_MEAN and MODEL.PIXEL_STD 3 entries",
    )  # fmt: skip


def test_kernel_and_heads_are_named(golden, config):
    file = golden / "det_window8_checkpoint.pth"
    refused(build_model(config(**LIKE_DET, CONV_KERNEL_SIZE=7)), file, "MODEL.CONVMAE.CONV_KERNEL_SIZE to 5")
    refused(build_model(config(**LIKE_DET | dict(NUM_HEADS=8))), file, "MODEL.CONVMAE.NUM_HEADS to 4")


def test_a_head_of_the_same_layout_must_be_complete(config, path):
    model = build_model(config(ARCH="tiny"))
    tensors = state(model)
    del tensors["roi_heads.box_head.fc1.bias"]
    write_checkpoint({"model": tensors}, path)
    refused(model, path, "roi_heads.box_head.fc1.bias: not in the file", "--to encoder")


def test_batch_norm_where_the_model_has_layer_norm_is_refused(config, path):
    """Its weights would fit, and its statistics be lost: so the first published detector was trained."""
    cfg = config(ARCH="tiny", IMAGE_SIZE=64)
    cfg.MODEL.FPN.NORM = cfg.MODEL.ROI_BOX_HEAD.NORM = cfg.MODEL.ROI_MASK_HEAD.NORM = "BN"
    published = randomise(build_model(cfg))
    save_official_detector(published, path)
    refused(
        build_model(config(ARCH="tiny", IMAGE_SIZE=64)),
        path,
        "fpn_lateral2.norm.running_mean: not in the model",
        "FPN.NORM",
    )
    assert not load_weights(build_model(cfg), path).new


def test_a_decoder_of_another_size_is_refused(golden, pretraining_config):
    for depth in (1, 3):
        refused(build_model(pretraining_config(depth)), golden / "mae_tiny_checkpoint.pth", "decoder.blocks")


def test_weights_of_others_and_models_of_others(golden, config, path):
    torch.save({"model": {"cls_token": torch.zeros(1), "patch_embed.proj.weight": torch.zeros(1)}}, path)
    refused(build_model(config(ARCH="tiny")), path, "plain ViT")
    refused(torch.nn.Linear(2, 2), golden / "mae_tiny_checkpoint.pth", "MODEL.BACKBONE.NAME")


# --- the report


def test_the_report_is_logged_as_a_table(golden, config, caplog):
    with caplog.at_level(logging.INFO, "convmae_det"):
        report = load_weights(build_model(config(**LIKE_DET)), golden / "handoff_window8_pretrain_checkpoint.pth")
    assert str(report) in caplog.text
    rows = [line.split() for line in str(report).splitlines()]
    assert ["matched", "202", "backbone.bottom_up.encoder"] in rows
    assert any(row[:2] == ["resized", "1"] and row[-3:] == ["1×14×14×48", "→", "1×16×16×48"] for row in rows)
    assert any(row[:3] == ["left", "out", "4"] and "optimizer," in row for row in rows)
    assert max(map(len, str(report).splitlines()[1:])) < 140
