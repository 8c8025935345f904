"""Fusion heads as the strided convolutions that they replace, and the decoder's order of tokens."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import randomise
from torch.testing import assert_close

from convmae_det.modeling.decoder import Decoder, MultiScaleFusion
from convmae_det.modeling.masking import VisibleBlocks


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
    visible = torch.zeros(2, 12, dtype=torch.bool)
    visible[0, [1, 5]] = visible[1, [0, 11]] = True
    latent = torch.randn(2, 2, 6)
    decoder(latent, visible, ~visible, (3, 4))
    tokens = seen[0] - decoder.position_embedding((3, 4)).flatten(1, 2)
    assert_close(tokens[visible].view(2, 2, 8), decoder.embed(latent))
    assert_close(tokens[~visible], decoder.mask_token.expand(20, 8))


def test_prediction_is_asked_for_patch_by_patch():
    """The patches predicted are those of predicting all."""
    decoder, visible = small_decoder(), torch.rand(2, 12).argsort(1) < 4
    latent = torch.randn(2, 4, 6)
    everything = decoder(latent, visible, torch.ones_like(visible), (3, 4))
    assert everything.shape == (2, 12, 5)
    assert_close(decoder(latent, visible, ~visible, (3, 4)), everything[~visible].view(2, 8, 5))


def test_norms_have_the_published_eps():
    assert {m.eps for m in small_decoder().modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


def test_any_grid():
    visible = torch.arange(10).expand(1, -1) < 3
    assert small_decoder()(torch.randn(1, 3, 6), visible, ~visible, (2, 5)).shape == (1, 7, 5)
