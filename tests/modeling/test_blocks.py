"""The convolution block against its channels-first form, with the kernel sizes of the paper's ablation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import assert_near, gradients, randomise
from torch import nn

from benchmarks import published as plain
from convmae_det.modeling.blocks import ConvBlock, Mlp
from convmae_det.modeling.masked_convolution import Dense, VisibleBlocks


@settings(max_examples=15)
@given(
    dim=st.integers(2, 6),
    ratio=st.sampled_from([1, 2, 4]),
    kernel=st.sampled_from([5, 7, 9]),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_equals_the_channels_first_block(dim, ratio, kernel, grid):
    ours, theirs = randomise(ConvBlock(dim, ratio, kernel)).double(), plain.ConvBlock(dim, ratio, kernel).double()
    theirs.load_state_dict(as_plain_block(ours.state_dict()))
    tokens = torch.randn(2, *grid, dim, dtype=torch.float64)
    result, expected = ours(tokens, Dense()), theirs(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert_near(result, expected, 1e-8)
    result.square().sum().backward()
    expected.square().sum().backward()
    assert_near(as_plain_block(gradients(ours)), gradients(theirs), 1e-8)


def as_plain_block(tensors):
    renamed = plain.published({f"stage1.blocks.0.{name}": tensor for name, tensor in tensors.items()})
    return {name.removeprefix("blocks1.0."): tensor for name, tensor in renamed.items()}


@pytest.mark.parametrize("kernel", [5, 7, 9])
def test_a_token_sees_its_neighbours_as_far_as_the_kernel_reaches(kernel):
    block, tokens = randomise(ConvBlock(4, 2, kernel)), torch.randn(1, 15, 15, 4, requires_grad=True)
    block(tokens, Dense())[0, 7, 7].sum().backward()
    expected = torch.zeros(15, 15, dtype=torch.bool)
    reach = kernel // 2
    expected[7 - reach : 8 + reach, 7 - reach : 8 + reach] = True
    assert torch.equal(tokens.grad[0].abs().sum(-1) > 0, expected)


@pytest.mark.parametrize("kernel", [5, 7, 9])
def test_visible_blocks_see_only_visible_neighbours(kernel):
    """Against the dense block whose convolution's input is masked."""
    ours, theirs = randomise(ConvBlock(4, 2, kernel)), plain.ConvBlock(4, 2, kernel)
    theirs.load_state_dict(as_plain_block(ours.state_dict()))
    grid, indices = (3, 4), torch.tensor([[0, 1, 6], [2, 10, 11]])
    layout = VisibleBlocks(indices, grid)
    maps = torch.randn(2, 6, 8, 4)
    visible = torch.zeros(2, 12).scatter_(1, indices, 1.0).view(2, 1, *grid)
    expected = theirs(maps.permute(0, 3, 1, 2), plain.upsample(visible, 2)).permute(0, 2, 3, 1)
    assert_near(ours(layout.select(maps), layout), layout.select(expected), 1e-5)


def test_equals_torchs_layers():
    mlp, tokens = Mlp(4, 8), torch.randn(2, 3, 4)
    plain = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
    plain.load_state_dict(dict(zip(plain.state_dict(), mlp.state_dict().values(), strict=True)))
    torch.testing.assert_close(mlp(tokens), plain(tokens))


def test_names_and_shapes_are_those_of_nn_linear():
    assert {name: tuple(p.shape) for name, p in Mlp(4, 8).named_parameters()} == {
        "fc1.weight": (8, 4),
        "fc1.bias": (8,),
        "fc2.weight": (4, 8),
        "fc2.bias": (4,),
    }
