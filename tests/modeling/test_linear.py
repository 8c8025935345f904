"""The fast form of a linear layer is the linear layer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from convmae_det.modeling.linear import Linear, Mlp


@given(lead=st.lists(st.integers(1, 5), min_size=1, max_size=4), dims=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_equals_the_plain_product_with_gradients(lead, dims):
    layer = Linear(*dims)
    tokens = torch.randn(*lead, dims[0], requires_grad=True)
    plain = F.linear(tokens, layer.weight, layer.bias)
    result = layer(tokens)
    direction = torch.randn_like(plain)
    inputs = (tokens, layer.weight, layer.bias)
    torch.testing.assert_close(result, plain, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(result, inputs, direction), torch.autograd.grad(plain, inputs, direction), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_tokens_need_not_be_contiguous():
    layer, tokens = Linear(6, 5), torch.randn(3, 6, 4, 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(tokens), F.linear(tokens, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)


def test_nothing_in_gives_nothing_out():
    assert Linear(4, 3)(torch.zeros(2, 0, 4)).shape == (2, 0, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_kept(dtype):
    assert Linear(4, 3).to(dtype)(torch.zeros(2, 4, dtype=dtype)).dtype == dtype


def test_autocast_decides_the_precision():
    with torch.autocast("cpu", torch.bfloat16):
        assert Mlp(4, 8)(torch.randn(2, 4)).dtype == torch.bfloat16


def test_names_and_shapes_are_those_of_nn_linear():
    assert {name: tuple(p.shape) for name, p in Mlp(4, 8).named_parameters()} == {
        "fc1.weight": (8, 4),
        "fc1.bias": (8,),
        "fc2.weight": (4, 8),
        "fc2.bias": (4,),
    }
