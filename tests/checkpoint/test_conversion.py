"""Conversion is exact both ways, and folds convolutions into linear layers that do the same."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from convmae_det.checkpoint.conversion import (
    build_convolution_change,
    build_relative_position_index,
    to_official,
    to_ours,
)
from convmae_det.checkpoint.formats import recognise_format
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.errors import InputError
from convmae_det.modeling.attention import RelativePositionBias
from convmae_det.modeling.embeddings import fold
from convmae_det.ops.attention import look_up

FILES = ["det_window8", "handoff_window8_pretrain", "mae_tiny", "mae_tiny_rawpix", "vitdet_window7"]


def assert_identical(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("file", FILES)
def test_round_trip_is_bit_exact(golden, file):
    published = read_checkpoint(golden / f"{file}_checkpoint.pth")["model"]
    prefix = recognise_format(published, file).prefix
    ours = to_ours(published, prefix)
    assert_identical(to_official(ours, prefix), published)
    assert_identical(to_ours(to_official(ours, prefix), prefix), ours)
    assert recognise_format(ours, file).layout == "ours"


@given(st.sampled_from([1, 2, 4]), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))
def test_a_folded_convolution_is_the_linear_layer(size, inputs, outputs, rows, columns):
    weight = torch.randn(outputs, inputs, size, size, dtype=torch.float64)
    image = torch.randn(2, inputs, rows * size, columns * size, dtype=torch.float64)
    expected = F.conv2d(image, weight, stride=size).permute(0, 2, 3, 1)
    linear = build_convolution_change(size).to_ours(weight)
    torch.testing.assert_close(F.linear(fold(image.permute(0, 2, 3, 1), size), linear), expected)
    assert torch.equal(build_convolution_change(size).to_official(linear), weight)


@given(st.integers(1, 6), st.integers(1, 3))
def test_a_published_bias_table_and_its_index_give_our_bias(size, heads):
    name = "windowed_rel_pos_bias.relative_position_bias_table"
    table = torch.randn((2 * size - 1) ** 2, heads)
    bias = RelativePositionBias(heads, (size, size))
    bias.load_state_dict({"table": to_ours({name: table})["encoder.stage3.local_bias.table"]})
    expected = table[build_relative_position_index(size).flatten()].view(size**2, size**2, heads).permute(2, 0, 1)
    assert torch.equal(look_up(bias((size, size)), (size, size)), expected)


def test_names_of_others_stay():
    others = {
        "backbone.fpn_output2.weight": torch.ones(1),
        "head.weight": torch.ones(2),
        "norm_pre.weight": torch.ones(1),
    }
    assert_identical(to_ours(others), others)
    assert_identical(to_ours(others, "backbone.bottom_up."), others)


@pytest.mark.parametrize(
    "name, shape, complaint",
    [
        ("patch_embed1.proj.weight", (8, 3, 2, 4, 4), "4×4 convolution"),  # a video model
        ("patch_embed1.proj.weight", (8, 3, 16, 16), "4×4 convolution"),
        ("pos_embed", (1, 197, 8), "197 entries"),  # with a class token
        ("pos_embed", (197, 8), "position embedding"),
        ("global_rel_pos_bias.relative_position_bias_table", (8, 2), "8 entries"),
    ],
)
def test_impossible_shapes_are_named(name, shape, complaint):
    with pytest.raises(InputError, match=f"^{name}.*{complaint}"):
        to_ours({name: torch.zeros(shape)})


def test_what_the_published_layout_can_not_express_is_refused():
    with pytest.raises(InputError, match="position_embedding.table.*not square"):
        to_official({"encoder.stage3.position_embedding.table": torch.zeros(1, 2, 3, 4)})
    with pytest.raises(InputError, match="encoder.stage4"):
        to_official({"encoder.stage4.weight": torch.zeros(1)})
