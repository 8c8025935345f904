"""Gradients of a depthwise convolution's weights are the diagonals of a grouped one's."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from convmae_det.ops import choice
from convmae_det.ops.layers import accelerate_depthwise_convolutions


def both(dim: int, kernel_size: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A fast and a plain one with the same weights."""
    ours, plain = (nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    accelerate_depthwise_convolutions(ours)
    return ours, plain


def with_gradients(layer: nn.Conv2d, maps: torch.Tensor) -> list[torch.Tensor]:
    result = layer(maps)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(result.shape, generator=generator).to(result)
    wanted = [tensor for tensor in (maps, *layer.parameters()) if tensor.requires_grad]
    return [result, *torch.autograd.grad(result, wanted, direction)]


@pytest.mark.parametrize("form", choice.FORMS["depthwise"])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(1, 32, 8, 9), (3, 16, 4, 4), (2, 12, 5, 3), (2, 16, 1, 1)])
def test_equals_torchs_convolution_with_gradients(force, form, channels_last, kernel_size, size):
    force(depthwise=form)
    ours, plain = both(size[1], kernel_size)
    maps = torch.randn(size)
    if channels_last:
        maps = maps.to(memory_format=torch.channels_last)
    maps.requires_grad_()
    assert_close(with_gradients(ours, maps), with_gradients(plain, maps), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frozen", ["maps", "weight", "bias"])
def test_what_is_frozen_gets_no_gradient(force, frozen):
    force(depthwise="grouped")
    ours, plain = both(16, 5)
    maps = torch.randn(2, 16, 6, 6)
    for layer in (ours, plain):
        for name, tensor in {"maps": maps, **dict(layer.named_parameters())}.items():
            tensor.requires_grad_(name != frozen)
    assert_close(with_gradients(ours, maps), with_gradients(plain, maps), rtol=1e-4, atol=1e-4)


def test_second_derivatives(force):
    force(depthwise="grouped")
    ours, plain = both(16, 3)
    maps, found = torch.randn(1, 16, 4, 4, requires_grad=True), []
    for layer in (ours, plain):
        inputs = (maps, *layer.parameters())
        first = torch.autograd.grad(layer(maps).pow(3).sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(gradient.square().sum() for gradient in first), inputs))
    assert_close(*found, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    "changes",
    [
        dict(groups=8),
        dict(stride=2),
        dict(padding=0),
        dict(kernel_size=4),
        dict(kernel_size=(3, 5)),
        dict(dilation=2),
        dict(padding_mode="circular"),
    ],
)
def test_other_convolutions_are_left_as_they_are(changes):
    layer = nn.Conv2d(16, 16, **dict(kernel_size=3, padding=1, groups=16) | changes)
    accelerate_depthwise_convolutions(layer)
    assert "forward" not in vars(layer)


def test_channels_that_fill_no_vectors_are_left_to_torch(force):
    force(depthwise="grouped")
    assert choice.choose_depthwise_group(torch.zeros(1, 12, 4, 4)) == 0
    assert choice.choose_depthwise_group(torch.zeros(1, 16, 4, 4)) in (8, 16)
    assert choice.choose_depthwise_group(torch.zeros(1, 16, 4, 4, dtype=torch.float64)) == 0
    with torch.autocast("cpu", torch.bfloat16):
        assert choice.choose_depthwise_group(torch.zeros(1, 16, 4, 4)) == 0
