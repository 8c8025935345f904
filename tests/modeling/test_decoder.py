"""Fusion heads as the strided convolutions that they replace; the decoder's order of tokens; targets and the loss."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import randomise
from torch.testing import assert_close

from convmae_det.modeling.decoder import Decoder, MultiScaleFusion
from convmae_det.modeling.masked_autoencoder import (
    build_target_patches,
    compute_patch_statistics,
    compute_reconstruction_loss,
    patchify,
    unpatchify,
)
from convmae_det.modeling.masked_convolution import VisibleBlocks
from convmae_det.ops.maps import find_other_places, find_places, list_all_places, mark_occupied


def small_decoder() -> Decoder:
    return randomise(Decoder(in_dim=6, dim=8, depth=2, num_heads=2, mlp_ratio=2, patch_values=5, grid=(3, 4)))


@settings(max_examples=15)
@given(dims=st.lists(st.integers(1, 5), min_size=2, max_size=4), grid=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_fusion_heads_are_strided_convolutions_one_for_each_earlier_stage(dims, grid):
    ratios = [2**i for i in range(len(dims) - 1, 0, -1)]
    fusion = MultiScaleFusion(dims, ratios)
    features = [
        torch.randn(2, ratio * grid[0], ratio * grid[1], c) for c, ratio in zip(dims, [*ratios, 1], strict=True)
    ]
    expected = features[-1]
    for head, feature, ratio in zip(fusion.heads, features, ratios, strict=False):
        kernel = head.weight.unflatten(1, (ratio, ratio, -1)).permute(0, 3, 1, 2)
        convolved = F.conv2d(feature.permute(0, 3, 1, 2), kernel, head.bias, stride=ratio)
        expected = expected + convolved.permute(0, 2, 3, 1)
    assert_close(fusion(features), expected, rtol=1e-4, atol=1e-5)


def test_fusion_of_visible_blocks_is_fusion_of_maps_at_them():
    fusion, layout = MultiScaleFusion([3, 4, 5], (4, 2)), VisibleBlocks(torch.tensor([[0, 4], [2, 5]]), (2, 3))
    maps = [torch.randn(2, 2 * s, 3 * s, c) for c, s in ((3, 4), (4, 2), (5, 1))]
    assert_close(fusion([layout.select(m) for m in maps]), layout.select(fusion(maps)), rtol=1e-5, atol=1e-6)


def test_latents_stand_where_they_are_visible_and_mask_tokens_elsewhere():
    decoder, seen = small_decoder(), []
    decoder.blocks.register_module("0", torch.nn.Identity())
    decoder.blocks[0].register_forward_hook(lambda *args: seen.append(args[2]))
    places = find_places(torch.tensor([[1, 5], [0, 11]]), (3, 4))
    visible, latent = mark_occupied(places), torch.randn(2, 2, 6)
    decoder(latent, places, find_other_places(places))
    tokens = (seen[0] - decoder.position_embedding((3, 4))).flatten(1, 2)
    assert_close(tokens[visible].view(2, 2, 8), decoder.embed(latent))
    assert_close(tokens[~visible], decoder.mask_token.expand(20, 8))


def test_prediction_is_asked_for_patch_by_patch():
    """The patches predicted are those of predicting all."""
    decoder, visible = small_decoder(), find_places(torch.rand(2, 12).argsort(1)[:, :4].sort(1).values, (3, 4))
    latent = torch.randn(2, 4, 6)
    everything = decoder(latent, visible, list_all_places(2, (3, 4), latent.device))
    assert everything.shape == (2, 12, 5)
    hidden = ~mark_occupied(visible)
    assert_close(decoder(latent, visible, find_other_places(visible)), everything[hidden].view(2, 8, 5))


def test_norms_have_the_published_eps():
    assert {m.eps for m in small_decoder().modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


def test_any_grid():
    visible = find_places(torch.arange(3)[None], (2, 5))
    assert small_decoder()(torch.randn(1, 3, 6), visible, find_other_places(visible)).shape == (1, 7, 5)


@settings(max_examples=15)
@given(n=st.integers(1, 2), c=st.sampled_from([1, 3, 4]), h=st.integers(1, 3), w=st.integers(1, 3))
def test_patches_are_in_raster_order_with_row_column_channel_inside(n, c, h, w):
    images = torch.randn(n, c, 16 * h, 16 * w)
    patches = patchify(images)
    assert patches.shape == (n, h * w, 256 * c)
    for index in range(h * w):
        y, x = 16 * (index // w), 16 * (index % w)
        patch = images[:, :, y : y + 16, x : x + 16].permute(0, 2, 3, 1).flatten(1)
        assert torch.equal(patches[:, index], patch)
    assert torch.equal(unpatchify(patches, (h, w)), images)


def test_normalised_targets_have_mean_0_and_variance_1_and_are_undone_by_their_statistics():
    patches = 5 + 3 * torch.randn(2, 4, 768)
    target = build_target_patches(patches, normalise=True)
    assert_close(target.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    assert_close(target.var(-1), torch.ones(2, 4), atol=1e-5, rtol=0)
    mean, deviation = compute_patch_statistics(patches)
    assert_close(target * deviation + mean, patches, rtol=1e-5, atol=1e-5)
    assert build_target_patches(patches, normalise=False) is patches


def test_a_patch_of_one_colour_has_a_finite_target():
    assert not build_target_patches(torch.full((1, 1, 768), 0.3), normalise=True).abs().gt(1e-3).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_loss_is_taken_in_float32(dtype):
    prediction, target = torch.full((1, 2, 768), 300.0, dtype=dtype), torch.zeros(1, 2, 768)
    loss = compute_reconstruction_loss(prediction, target)
    assert loss.dtype == torch.float32 and loss == 90000  # beyond float16


def test_weights_choose_what_counts():
    prediction, target = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    weight = torch.rand(2, 3, 8) < 0.5
    loss = compute_reconstruction_loss(prediction, target, weight)
    assert_close(loss, (prediction - target)[weight].square().mean())
    assert_close(
        compute_reconstruction_loss(prediction, target, torch.ones_like(weight)),
        compute_reconstruction_loss(prediction, target),
    )
    assert compute_reconstruction_loss(prediction, target, torch.zeros_like(weight)) == 0
