"""The fast form of a linear layer is the linear layer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convmae_det.modeling import linear
from convmae_det.modeling.linear import PIECE, Linear, Mlp, by_pieces


@pytest.fixture(autouse=True)
def convolutions_of_any_size(monkeypatch):
    monkeypatch.setattr(linear, "SMALL_CONVOLUTION", 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def bytes_kept(result_of, *inputs) -> int:
    """What autograd keeps for the backward pass of `result_of(*inputs)`, each memory counted once."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result_of(*inputs).sum().backward()
    return sum(kept.values())


def plain_mlp(mlp: Mlp, tokens: torch.Tensor) -> torch.Tensor:
    hidden = F.gelu(F.linear(tokens, mlp.fc1.weight, mlp.fc1.bias))
    return F.linear(hidden, mlp.fc2.weight, mlp.fc2.bias)


@pytest.mark.parametrize("frozen", [(), ("fc2.weight",), ("fc2.bias",), ("fc1.weight", "fc1.bias", "tokens")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mlp_equals_its_plain_form_with_gradients(frozen, dtype):
    mlp, tokens = Mlp(6, 24).to(dtype), torch.randn(2, 3, 4, 6, dtype=dtype)
    inputs = dict(mlp.named_parameters(), tokens=tokens)
    wanted = [tensor.requires_grad_(name not in frozen) for name, tensor in inputs.items()]
    wanted = [tensor for tensor in wanted if tensor.requires_grad]
    ours, plain = mlp(tokens), plain_mlp(mlp, tokens)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(plain)
    for gradient, expected in zip(
        torch.autograd.grad(ours, wanted, direction), torch.autograd.grad(plain, wanted, direction), strict=True
    ):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_the_mlp_keeps_its_hidden_layer_once():
    mlp, tokens = Mlp(8, 32), torch.randn(1000, 8, requires_grad=True)
    difference = bytes_kept(lambda x: plain_mlp(mlp, x), tokens) - bytes_kept(mlp, tokens)
    assert difference == 1000 * 32 * 4


def test_the_mlp_in_autocast_has_gradients_in_the_precision_of_its_weights():
    mlp, tokens = Mlp(8, 32), torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        mlp(tokens).float().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in mlp.parameters())
    torch.testing.assert_close(mlp.fc2.bias.grad, torch.full((8,), 5.0))


@pytest.mark.parametrize("shape", [(3, 2 * PIECE + 1), (2, 50, 51), (1, 2 * PIECE + 1, 1)])
def test_pieces_change_neither_results_nor_gradients(shape):
    norm, mlp = torch.nn.LayerNorm(4), Mlp(4, 8)
    tokens = torch.randn(*shape, 4, requires_grad=True)
    inputs = (tokens, *norm.parameters(), *mlp.parameters())
    whole, pieces = mlp(norm(tokens)), by_pieces(lambda piece: mlp(norm(piece)), tokens)
    assert pieces.shape == tokens.shape
    torch.testing.assert_close(pieces, whole)
    with torch.no_grad():
        torch.testing.assert_close(by_pieces(lambda piece: mlp(norm(piece)), tokens), whole)
    direction = torch.randn_like(whole)
    ours, expected = (torch.autograd.grad(result, inputs, direction) for result in (pieces, whole))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-3)  # sums over thousands of tokens


def test_pieces_keep_their_tokens_alone():
    mlp, count = Mlp(8, 32), 3 * PIECE
    tokens = torch.randn(count, 8, requires_grad=True)
    kept = bytes_kept(lambda x: by_pieces(mlp, x), tokens)
    assert kept < 2 * count * 8 * 4  # the hidden layer alone would be four times the tokens


def test_a_small_map_goes_through_whole():
    """What it takes to compute it again would be saved for nothing."""
    calls = []
    by_pieces(lambda piece: calls.append(len(piece)) or piece, torch.zeros(2, PIECE, 3, requires_grad=True))
    assert calls == [2]
