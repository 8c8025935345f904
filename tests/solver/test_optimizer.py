"""Every parameter has its layer, learning rate and weight decay; gradients are clipped as asked."""

import logging

import pytest
import torch
from detectron2.modeling import build_model
from reference.small import autoencoder_cfg, detector_cfg, segmentor_cfg
from torch import nn

from convmae_det.config.presets import PRESETS
from convmae_det.solver.optimizer import (
    build_gradient_clipper,
    build_optimizer,
    build_parameter_groups,
    count_encoder_blocks,
    find_layer,
    is_decayed,
)

PRESET_ONLY = ["MODEL.CONVMAE.EMBED_DIMS", [], "MODEL.CONVMAE.DEPTHS", [], "MODEL.CONVMAE.MLP_RATIOS", []]
PRESET_ONLY += ["MODEL.CONVMAE.NUM_HEADS", 0, "MODEL.CONVMAE.GLOBAL_BLOCKS", []]


def built(make_cfg, arch, *options):
    with torch.device("meta"):
        return build_model(make_cfg(*PRESET_ONLY, "MODEL.CONVMAE.ARCH", arch, "MODEL.DEVICE", "meta", *options))


@pytest.mark.parametrize("arch", PRESETS)
@pytest.mark.parametrize(
    "make_cfg, options",
    [
        (detector_cfg, ()),
        (detector_cfg, ("MODEL.CONVMAE.RELATIVE_POSITION", "decomposed")),
        (segmentor_cfg, ()),
        (detector_cfg, ("MODEL.BACKBONE.NAME", "build_convmae_sfp_backbone")),
        (autoencoder_cfg, ()),
    ],
    ids=["detector", "decomposed", "segmentor", "simple pyramid", "autoencoder"],
)
def test_every_parameter_of_every_preset_has_a_layer(arch, make_cfg, options):
    model = built(make_cfg, arch, *options)
    names = [name for name, _ in model.named_parameters()]
    depth = count_encoder_blocks(names)
    assert depth == PRESETS[arch]["depths"][2]
    assert {find_layer(name, depth) for name in names} == set(range(depth + 2))
    groups = build_parameter_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0.8)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_layers_of_the_published_recipe():
    path = "backbone.bottom_up.encoder."
    layers = {
        "stage1.blocks.1.mlp.fc1.weight": 0,
        "stage2.patch_embed.proj.weight": 0,
        "stage3.patch_embed.norm.bias": 0,
        "stage3.linear.weight": 0,
        "stage3.position_embedding.table": 0,
        "stage3.blocks.0.attn.qkv.weight": 1,
        "stage3.blocks.10.mlp.fc2.bias": 11,
        "stage3.local_bias.table": 11,
        "stage3.global_bias.table": 11,
        "stage3.block_biases.3.table": 4,
        "norm.weight": 12,
    }
    assert {name: find_layer(path + name, 11) for name in layers} == layers
    for name in ("backbone.fpn_lateral2.weight", "roi_heads.box_head.fc1.weight", "decoder.blocks.0.attn.qkv.weight"):
        assert find_layer(name, 11) == 12


@pytest.mark.parametrize("name", ["encoder.stage4.linear.weight", "encoder.stage3.gate", "backbone.encoder.token"])
def test_an_unknown_encoder_parameter_is_an_error(name):
    with pytest.raises(ValueError, match="no layer is known"):
        find_layer(name, 11)


def test_learning_rates_decay_towards_the_image():
    model = built(detector_cfg, "base")
    groups = build_parameter_groups(model, lr=1e-4, weight_decay=0.1, layer_decay=0.8)
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert rate_of[id(parameter)] == pytest.approx(1e-4 * 0.8 ** (12 - find_layer(name, 11)))
    assert min(rate_of.values()) == pytest.approx(1e-4 * 0.8**12)


@pytest.mark.parametrize("relative_position", ["shared", "decomposed"])
def test_offsets_are_not_decayed(relative_position):
    model = built(detector_cfg, "tiny", "MODEL.CONVMAE.RELATIVE_POSITION", relative_position)
    undecayed = {name for name, p in model.named_parameters() if not is_decayed(name, p)}
    norms = tuple(name for name, module in model.named_modules() if "norm" in type(module).__name__.lower())
    kinds = ("position_embedding.table", "_bias.table", "rel_pos_h", "rel_pos_w", ".bias")
    expected = {n for n, _ in model.named_parameters() if n.endswith(kinds) or n.rpartition(".")[0] in norms}
    assert undecayed == expected
    assert any(name.endswith(("_bias.table", "rel_pos_h")) for name in undecayed)


def test_the_mask_token_is_not_decayed():
    names = dict(built(autoencoder_cfg, "tiny").named_parameters())
    tokens = [name for name in names if "mask_token" in name]
    assert tokens and not any(is_decayed(name, names[name]) for name in tokens)


def test_frozen_parameters_are_left_out():
    model = built(detector_cfg, "tiny", "MODEL.CONVMAE.FREEZE_STAGES", 3)
    groups = build_parameter_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0.8)
    assert {group["name"] for group in groups} == {"above the encoder", "above the encoder, undecayed"}
    assert all(p.requires_grad for group in groups for p in group["params"])


def test_the_optimizer_says_its_rates_and_updates(caplog):
    model = build_model(detector_cfg())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with caplog.at_level(logging.DEBUG, "convmae_det"):
        optimizer = build_optimizer(detector_cfg("SOLVER.LAYER_DECAY", 0.5, "SOLVER.BETAS", [0.8, 0.9]), model)
    line, table = caplog.records  # the table is for log.txt alone
    assert (line.levelno, table.levelno) == (logging.INFO, logging.DEBUG) and "\n" not in line.getMessage()
    assert "layer 0, undecayed" in table.getMessage() and "6.25e-06" in table.getMessage()
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.9)}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_model_without_our_encoder():
    groups = build_parameter_groups(nn.Linear(2, 2), lr=1.0, weight_decay=0.1, layer_decay=0.5)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1.0, 0.0), (1.0, 0.1)]


def clipped(kind, *gradients):
    parameters = [nn.Parameter(torch.zeros(len(gradient))) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    options = ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind]
    build_gradient_clipper(detector_cfg(*options))(parameters)
    return [parameter.grad.tolist() for parameter in parameters]


def test_clipping_entries():
    assert clipped("value", [3.0, 0.5], [-4.0]) == [[1.0, 0.5], [-1.0]]


def test_clipping_each_parameter():
    long, short = clipped("norm", [3.0, 4.0], [0.3, 0.4])
    assert long == pytest.approx([0.6, 0.8], abs=1e-5)
    assert short == pytest.approx([0.3, 0.4])


def test_clipping_the_whole_model():
    first, second = clipped("full_model", [3.0, 4.0], [12.0])
    assert [*first, *second] == pytest.approx([3 / 13, 4 / 13, 12 / 13], abs=1e-5)


def test_nothing_is_clipped_unless_asked_for():
    assert build_gradient_clipper(detector_cfg()) is None
