"""The encoder: its size, its inputs, and its dense path against the plain channels-first form."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import SHAPE, assert_near, detector_cfg, gradients, randomise
from timm.layers import DropPath
from torch import nn
from torch.testing import assert_close

from benchmarks import published as plain
from convmae_det.config.presets import PRESETS
from convmae_det.errors import InputError
from convmae_det.modeling.attention import Window
from convmae_det.modeling.blocks import ConvBlock, TransformerBlock
from convmae_det.modeling.encoder import STRIDES, Encoder, list_feature_channels, select_feature_maps
from convmae_det.ops import attention
from convmae_det.ops.recomputation import recompute_activations

WINDOWS = (None, Window(3), Window(3, 1))
STAGES = [torch.randn(2, 8, 12, 3), torch.randn(2, 4, 6, 5), torch.randn(2, 2, 3, 7)]


def small_encoder(grid=(4, 4), **changes) -> Encoder:
    return randomise(Encoder(**SHAPE | dict(grid=grid) | changes))


def detector_encoder(grid, windows=WINDOWS, **changes) -> Encoder:
    detector = dict(windows=windows, learned_position=True, relative_position="shared", final_norm=False)
    return small_encoder(grid, **detector | changes)


@pytest.mark.parametrize(
    "arch, parameters",
    [("small", 21_867_264), ("base", 84_455_296), ("large", 321_751_680), ("huge", 679_206_912)],
)
def test_presets_have_the_published_numbers_of_parameters(arch, parameters):
    with torch.device("meta"):
        encoder = Encoder(**PRESETS[arch], grid=(14, 14))
    assert sum(p.numel() for p in encoder.parameters()) == parameters


def test_the_tiny_preset_has_about_a_million_parameters():
    with torch.device("meta"):
        encoder = Encoder(**PRESETS["tiny"], grid=(8, 8))
    assert 0.7e6 < sum(p.numel() for p in encoder.parameters()) < 1.3e6


def test_norms_have_the_published_eps():
    """Too small to be seen in outputs: 1e-5 in patch embeddings and convolution blocks, 1e-6 after them."""
    for name, module in small_encoder().named_modules():
        if isinstance(module, nn.LayerNorm):
            early = name.startswith(("stage1", "stage2", "stage3.patch_embed"))
            assert module.eps == (1e-5 if early else 1e-6), name


def test_layers_start_as_in_the_published_code():
    """Patch embeddings as torch's convolutions, but Xavier for the third; the linear layer of stage 3 with no bias."""
    torch.manual_seed(0)
    encoder = Encoder(**PRESETS["tiny"], grid=(4, 4))
    for stage, layer in enumerate(stage.patch_embed.proj for stage in encoder.stages):
        fans = layer.in_features + layer.out_features if stage == 2 else 6 * layer.in_features
        bound = (6 / fans) ** 0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.bias.any()
    assert not encoder.stage3.linear.bias.any()


@pytest.mark.parametrize(
    "relative_position, eps, transformer_eps",
    [("shared", 1e-5, 1e-6), ("blocks", 1e-5, 1e-5), ("none", 1e-5, 1e-6), ("decomposed", 1e-6, 1e-6)],
)
def test_norms_of_blocks_are_those_of_the_published_code_with_such_positions(relative_position, eps, transformer_eps):
    cfg = detector_cfg("MODEL.CONVMAE.RELATIVE_POSITION", relative_position)
    encoder = build_model(cfg).backbone.bottom_up.encoder
    for stage, expected in zip(encoder.stages, (eps, eps, transformer_eps), strict=True):
        assert {norm.eps for block in stage.blocks for norm in (block.norm1, block.norm2)} == {expected}
    assert encoder.stage1.patch_embed.norm.eps == 1e-5


@settings(max_examples=12)
@given(h=st.integers(1, 5), w=st.integers(1, 5), channels=st.sampled_from([1, 3, 4]), n=st.integers(1, 2))
def test_any_multiple_of_16_and_1_3_or_4_channels(h, w, channels, n):
    encoder = detector_encoder((3, 3), in_channels=channels)
    e1, e2, e3 = encoder(torch.randn(n, channels, 16 * h, 16 * w))
    assert [tuple(e.shape) for e in (e1, e2, e3)] == [
        (n, 4 * h, 4 * w, 8),
        (n, 2 * h, 2 * w, 12),
        (n, h, w, 16),
    ]
    assert all(e.isfinite().all() for e in (e1, e2, e3))


@pytest.mark.parametrize("size", [(60, 64), (64, 72), (8, 8)])
def test_other_sizes_are_refused(size):
    with pytest.raises(InputError, match=f"{size[0]}×{size[1]}.*16"):
        small_encoder()(torch.zeros(1, 3, *size))


@settings(max_examples=10)
@given(
    widths=st.tuples(*[st.integers(1, 4)] * 3),
    depths=st.tuples(*[st.integers(1, 2)] * 3),
    heads=st.sampled_from([1, 2, 4]),
    grid=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    kernel=st.sampled_from([3, 5, 7]),
    channels=st.sampled_from([1, 3, 4]),
    seed=st.integers(0, 99),
)
def test_dense_path_equals_the_plain_form(widths, depths, heads, grid, kernel, channels, seed):
    shape = dict(
        embed_dims=tuple(4 * heads * width for width in widths),
        depths=depths,
        num_heads=heads,
        mlp_ratios=(2, 3, 4),
        in_channels=channels,
        conv_kernel_size=kernel,
    )
    windows = [(2, 0), (2, 1), None][: depths[2]]
    encoder = Encoder(
        **shape,
        grid=grid,
        learned_position=True,
        windows=[window and Window(*window) for window in windows],
        relative_position="shared",
        final_norm=False,
    )
    reference = plain.DetectionBackbone(**shape, grid=grid, windows=windows)
    plain.take_weights(reference, randomise(encoder, seed))
    encoder, reference = encoder.double(), reference.double()

    images = torch.randn(2, channels, 16 * grid[0], 16 * grid[1], dtype=torch.float64)
    features = [e.permute(0, 3, 1, 2) for e in encoder(images)]
    everything = reference(images)
    expected = [everything["e1"], everything["e2"], everything["e3"]]
    for ours, theirs in zip(features, expected, strict=True):
        assert_near(ours, theirs, 1e-8)

    sum(e.square().mean() for e in features).backward()
    sum(e.square().mean() for e in expected).backward()
    assert_near(plain.published(gradients(encoder)), gradients(reference), 1e-8)


@pytest.mark.parametrize("drop_path_rate", [0.0, 0.5])
def test_activation_checkpointing_recomputes_and_changes_nothing(drop_path_rate):
    images, results, runs = torch.randn(3, 3, 64, 80), [], []
    encoder = detector_encoder((4, 5), drop_path_rate=drop_path_rate)
    blocks = [block for stage in encoder.stages for block in stage.blocks]
    for recompute in (False, True):
        calls = []
        hooks = [block.norm1.register_forward_hook(lambda *_, calls=calls: calls.append(1)) for block in blocks]
        if recompute:
            recompute_activations(encoder, (ConvBlock, TransformerBlock))
        encoder.zero_grad()
        torch.manual_seed(1)
        features = encoder(images)
        sum(e.square().mean() for e in features).backward()
        results.append((features, gradients(encoder)))
        runs.append(len(calls) / len(blocks))
        for hook in hooks:
            hook.remove()
    assert runs == [1, 2]
    assert_close(results[1], results[0], rtol=1e-6, atol=1e-7)


def test_no_activation_is_recomputed_in_inference():
    encoder = detector_encoder((4, 4))
    recompute_activations(encoder, (ConvBlock, TransformerBlock))
    with torch.no_grad():
        with_checkpoint = encoder(torch.ones(1, 3, 64, 64))
    assert not any(e.requires_grad for e in with_checkpoint)


def test_drop_path_rates_rise_linearly_from_zero():
    encoder = Encoder(**SHAPE | dict(depths=(2, 2, 5)), grid=(4, 4), drop_path_rate=0.4)
    layers = [block.drop_path for stage in encoder.stages for block in stage.blocks]
    rates = [layer.drop_prob if isinstance(layer, DropPath) else 0.0 for layer in layers]
    assert rates == pytest.approx([0.05 * i for i in range(9)])


def test_drop_path_acts_in_training_only():
    encoder, images = small_encoder(drop_path_rate=0.9), torch.randn(2, 3, 64, 64)
    first, second = encoder(images)[2], encoder(images)[2]
    assert not torch.equal(first, second)
    encoder.eval()
    assert torch.equal(encoder(images)[2], encoder(images)[2])


def test_relative_position_bias_is_built_once_per_forward(monkeypatch):
    tables, look_up = [], attention.look_up
    monkeypatch.setattr(attention, "look_up", lambda table, grid: tables.append(table) or look_up(table, grid))
    windows = [None, Window(3), Window(3, 1)] * 4
    encoder = detector_encoder((4, 4), windows, depths=(1, 1, 12))
    with torch.no_grad():
        encoder(torch.randn(2, 3, 64, 64))
    assert len(tables) == 2 and {table.shape[-1] for table in tables} == {5, 7}  # local and global


def test_bias_tables_exist_where_a_block_uses_them_and_start_at_zero():
    arguments = SHAPE | dict(grid=(4, 4), relative_position="shared", relative_grid=(6, 5))
    stage = Encoder(**arguments, windows=WINDOWS).stage3
    assert stage.global_bias.table.shape == (2, 11, 9) and stage.local_bias.table.shape == (2, 5, 5)
    assert not stage.global_bias.table.any() and not stage.local_bias.table.any()
    assert Encoder(**arguments, windows=[None] * 3).stage3.local_bias is None
    assert Encoder(**arguments, windows=[Window(2)] * 3).stage3.global_bias is None
    for kind in ("none", "decomposed"):
        stage = Encoder(**arguments | dict(relative_position=kind), windows=WINDOWS).stage3
        assert stage.global_bias is None and stage.local_bias is None


def test_decomposed_tables_belong_to_each_block_and_start_at_zero():
    encoder = Encoder(**SHAPE, grid=(4, 4), windows=WINDOWS, relative_position="decomposed", relative_grid=(6, 5))
    shapes = [(tuple(b.attn.rel_pos_h.shape), tuple(b.attn.rel_pos_w.shape)) for b in encoder.stage3.blocks]
    assert shapes == [((11, 8), (9, 8)), ((5, 8), (5, 8)), ((5, 8), (5, 8))]
    assert not any(b.attn.rel_pos_h.any() or b.attn.rel_pos_w.any() for b in encoder.stage3.blocks)


def test_zero_bias_tables_change_nothing():
    """So that pretrained weights mean the same in the detector."""
    images = torch.randn(1, 3, 64, 80)
    arguments = SHAPE | dict(grid=(4, 5), windows=[None] * 3)
    encoders = [Encoder(**arguments, relative_position=kind) for kind in ("none", "shared", "decomposed")]
    for encoder in encoders[1:]:
        encoder.load_state_dict(encoders[0].state_dict(), strict=False)
    expected = encoders[0](images)
    assert_close(encoders[1](images), expected)
    assert_close(encoders[2](images), expected)


def test_neighbours_meet_only_in_the_depthwise_convolution():
    """The heart of the speed in pretraining: with its depthwise convolutions made pointwise, blocks of 16×16 pixels
    don't see each other before the attention.
    """
    encoder = small_encoder()
    for module in encoder.modules():
        if isinstance(module, ConvBlock):
            module.depthwise = nn.Conv2d(*[module.depthwise.in_channels] * 2, 1)
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    encoder.stage3.blocks, encoder.stage3.windows = nn.ModuleList(), ()
    encoder(images)[2][0, 1, 2].sum().backward()
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[16:32, 32:48] = True
    reached = images.grad[0].abs().sum(0) > 0
    assert torch.equal(reached, inside)


def test_maps_are_the_stages_with_channels_first_and_a_pooled_fourth():
    maps = select_feature_maps(STAGES, list(STRIDES))
    for i, stage in enumerate(STAGES, start=1):
        assert torch.equal(maps[f"e{i}"].permute(0, 2, 3, 1), stage)
    assert torch.equal(maps["e4"], F.max_pool2d(maps["e3"], 2))
    assert {name: tensor.shape[1] for name, tensor in maps.items()} == list_feature_channels([3, 5, 7])


@pytest.mark.parametrize("names", [["e3"], ["e4", "e1"]])
def test_only_what_is_asked_for_in_its_order(names):
    assert list(select_feature_maps(STAGES, names)) == names
