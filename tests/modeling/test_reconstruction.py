"""Patches, targets and the loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from convmae_det.modeling.reconstruction import (
    patch_statistics,
    patchify,
    reconstruction_loss,
    target_patches,
    unpatchify,
)


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
    target = target_patches(patches, normalise=True)
    assert_close(target.mean(-1), torch.zeros(2, 4), atol=1e-5, rtol=0)
    assert_close(target.var(-1), torch.ones(2, 4), atol=1e-5, rtol=0)
    mean, deviation = patch_statistics(patches)
    assert_close(target * deviation + mean, patches, rtol=1e-5, atol=1e-5)
    assert target_patches(patches, normalise=False) is patches


def test_a_patch_of_one_colour_has_a_finite_target():
    assert not target_patches(torch.full((1, 1, 768), 0.3), normalise=True).abs().gt(1e-3).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_loss_is_taken_in_float32(dtype):
    prediction, target = torch.full((1, 2, 768), 300.0, dtype=dtype), torch.zeros(1, 2, 768)
    loss = reconstruction_loss(prediction, target)
    assert loss.dtype == torch.float32 and loss == 90000  # beyond float16


def test_weights_choose_what_counts():
    prediction, target = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    weight = torch.rand(2, 3, 8) < 0.5
    loss = reconstruction_loss(prediction, target, weight)
    assert_close(loss, (prediction - target)[weight].square().mean())
    assert_close(
        reconstruction_loss(prediction, target, torch.ones_like(weight)), reconstruction_loss(prediction, target)
    )
    assert reconstruction_loss(prediction, target, torch.zeros_like(weight)) == 0
