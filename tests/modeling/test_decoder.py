"""Fusion heads as the strided convolutions that they replace, and the decoder's order of tokens."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import randomise
from torch.testing import assert_close

from convmae_det.modeling.decoder import Decoder, MultiScaleFusion
from convmae_det.modeling.masking import VisibleBlocks
from convmae_det.ops.blocks import all_places, occupied, other_places, places_of


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
    places = places_of(torch.tensor([[1, 5], [0, 11]]), (3, 4))
    visible, latent = occupied(places), torch.randn(2, 2, 6)
    decoder(latent, places, other_places(places))
    tokens = (seen[0] - decoder.position_embedding((3, 4))).flatten(1, 2)
    assert_close(tokens[visible].view(2, 2, 8), decoder.embed(latent))
    assert_close(tokens[~visible], decoder.mask_token.expand(20, 8))


def test_prediction_is_asked_for_patch_by_patch():
    """The patches predicted are those of predicting all."""
    decoder, visible = small_decoder(), places_of(torch.rand(2, 12).argsort(1)[:, :4].sort(1).values, (3, 4))
    latent = torch.randn(2, 4, 6)
    everything = decoder(latent, visible, all_places(2, (3, 4), latent.device))
    assert everything.shape == (2, 12, 5)
    hidden = ~occupied(visible)
    assert_close(decoder(latent, visible, other_places(visible)), everything[hidden].view(2, 8, 5))


def test_norms_have_the_published_eps():
    assert {m.eps for m in small_decoder().modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


def test_any_grid():
    visible = places_of(torch.arange(3)[None], (2, 5))
    assert small_decoder()(torch.randn(1, 3, 6), visible, other_places(visible)).shape == (1, 7, 5)
