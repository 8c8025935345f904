"""The fast form of a linear layer is the linear layer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from convmae_det.ops import choice
from convmae_det.ops.layers import accelerate_linear_layers, convolution

LARGE = choice.SMALL_CONVOLUTION // 32  # tokens of 32 channels, from which on PyTorch gives a convolution to oneDNN


def fast_linear(*shape) -> nn.Linear:
    layer = nn.Linear(*shape)
    accelerate_linear_layers(layer)
    return layer


def assert_equal_with_gradients(ours, tokens: torch.Tensor, layer: nn.Linear, tolerance: float) -> None:
    inputs = [tensor for tensor in (tokens.requires_grad_(), layer.weight, layer.bias) if tensor is not None]
    result, plain = ours(tokens), F.linear(tokens, layer.weight, layer.bias)
    direction = torch.randn_like(plain)
    assert_close(result, plain, rtol=tolerance, atol=tolerance)
    assert_close(
        torch.autograd.grad(result, inputs, direction),
        torch.autograd.grad(plain, inputs, direction),
        rtol=tolerance,
        atol=tolerance * len(direction.flatten(0, -2)) ** 0.5,  # of the weight: a sum over all tokens
    )


@given(lead=st.lists(st.integers(1, 5), min_size=1, max_size=4), dims=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_the_convolution_equals_the_product_with_gradients(lead, dims):
    layer = fast_linear(*dims).double()
    tokens = torch.randn(*lead, dims[0], dtype=torch.float64)
    assert_equal_with_gradients(lambda x: convolution(x, layer.weight, layer.bias), tokens, layer, 1e-10)


@pytest.mark.parametrize("count", [LARGE, LARGE + 1])
@pytest.mark.parametrize("form", choice.FORMS["linear"])
@pytest.mark.parametrize("bias", [True, False])
def test_both_forms_on_both_sides_of_the_size_from_which_on_it_pays(force, form, count, bias):
    force(linear=form)
    layer = fast_linear(32, 24, bias)
    assert_equal_with_gradients(layer, torch.randn(count, 32), layer, 1e-4)


def test_tokens_need_not_be_contiguous(force):
    force(linear="convolution")
    layer, tokens = fast_linear(6, 5), torch.randn(3, 6, 4, 2).permute(0, 2, 3, 1)
    assert_close(layer(tokens), F.linear(tokens, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)


def test_nothing_in_gives_nothing_out(force):
    assert fast_linear(4, 3)(torch.zeros(2, 0, 4)).shape == (2, 0, 3)


@pytest.mark.parametrize("form", choice.FORMS["linear"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_kept(force, form, dtype):
    force(linear=form)
    assert fast_linear(4, 3).to(dtype)(torch.zeros(2, 4, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("form", choice.FORMS["linear"])
def test_autocast_decides_the_precision(force, form):
    force(linear=form)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast_linear(4, 3)(torch.randn(2, 4)).dtype == torch.bfloat16
