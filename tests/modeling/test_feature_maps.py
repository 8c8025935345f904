"""Channels-first maps from the stages of the encoder."""

import pytest
import torch
import torch.nn.functional as F

from convmae_det.modeling.feature_maps import STRIDES, feature_channels, feature_maps

STAGES = [torch.randn(2, 8, 12, 3), torch.randn(2, 4, 6, 5), torch.randn(2, 2, 3, 7)]


def test_maps_are_the_stages_with_channels_first_and_a_pooled_fourth():
    maps = feature_maps(STAGES, list(STRIDES))
    for i, stage in enumerate(STAGES, start=1):
        assert torch.equal(maps[f"e{i}"].permute(0, 2, 3, 1), stage)
    assert torch.equal(maps["e4"], F.max_pool2d(maps["e3"], 2))
    assert {name: tensor.shape[1] for name, tensor in maps.items()} == feature_channels([3, 5, 7])


@pytest.mark.parametrize("names", [["e3"], ["e4", "e1"]])
def test_only_what_is_asked_for_in_its_order(names):
    assert list(feature_maps(STAGES, names)) == names
