"""Pointwise layers give the same however little is kept of them, and are called as layers."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from convmae_det.ops import choice
from convmae_det.ops.choice import PIECE, RECOMPUTED_TOKENS
from convmae_det.ops.layers import apply_pointwise


class Layers(nn.Module):
    """norm, linear, GELU, linear on tokens of width `dim`, in turn or by `pointwise`."""

    def __init__(self, dim: int = 4, hidden: int = 8, plain: bool = False):
        super().__init__()
        self.norm, self.fc1, self.act, self.fc2 = (
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, dim),
        )
        self.plain = plain

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return (
            self.fc2(self.act(self.fc1(self.norm(tokens)))) if self.plain else apply_pointwise(tokens, *self.children())
        )


def both(dim: int = 4, hidden: int = 8) -> tuple[Layers, Layers]:
    """The layers by `pointwise` and in turn, with the same weights."""
    ours, plain = Layers(dim, hidden), Layers(dim, hidden, plain=True)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def gradients(layers: Layers, tokens: torch.Tensor, wanted: list[str] | None = None) -> list[torch.Tensor]:
    inputs = dict(layers.named_parameters(), tokens=tokens)
    torch.manual_seed(0)
    result = layers(tokens)
    return torch.autograd.grad(result, [inputs[name] for name in wanted or inputs], torch.randn_like(result))


def bytes_kept(layers: Layers, tokens: torch.Tensor) -> int:
    """What autograd keeps for the backward pass, each memory counted once, the parameters not. Tensors that a context
    inside keeps in another way are seen where they are kept as they are: the input of that context.
    """
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layers(tokens).sum().backward()
    for parameter in layers.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(kept.values())


@pytest.mark.parametrize("count", [PIECE, PIECE + 1, RECOMPUTED_TOKENS, RECOMPUTED_TOKENS + 1])
def test_both_sides_of_each_size(force, count):
    ours, plain = both()
    tokens = torch.randn(count, 4, requires_grad=True)
    assert_close(ours(tokens), plain(tokens))
    with torch.no_grad():
        assert_close(ours(tokens), plain(tokens))
    assert_close(gradients(ours, tokens), gradients(plain, tokens), rtol=1e-4, atol=1e-3)  # sums over all tokens


@pytest.mark.parametrize("form", choice.FORMS["pieces"])
@pytest.mark.parametrize("shape", [(3, 2 * PIECE + 1), (2, 50, 51), (1, 7, 1)])
def test_the_arrangement_of_the_tokens_is_kept(force, form, shape):
    force(pieces=form)
    ours, plain = both()
    tokens = torch.randn(*shape, 4, requires_grad=True)
    assert ours(tokens).shape == tokens.shape
    assert_close(ours(tokens), plain(tokens))
    assert_close(gradients(ours, tokens), gradients(plain, tokens), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", choice.FORMS["pieces"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("frozen", [(), ("fc2.weight",), ("fc2.bias",), ("fc1.weight", "fc1.bias", "tokens")])
def test_what_is_frozen_gets_no_gradient(force, form, dtype, frozen):
    force(pieces=form)
    ours, plain = (layers.to(dtype) for layers in both(6, 24))
    tokens = torch.randn(2, 3, 4, 6, dtype=dtype)
    for layers in (ours, plain):
        inputs = dict(layers.named_parameters(), tokens=tokens)
        wanted = [name for name, tensor in inputs.items() if tensor.requires_grad_(name not in frozen).requires_grad]
    assert_close(gradients(ours, tokens, wanted), gradients(plain, tokens, wanted), rtol=1e-4, atol=1e-5)


def test_the_result_of_the_activation_is_not_kept(force):
    ours, plain = both(8, 32)
    tokens = torch.randn(1000, 8, requires_grad=True)
    assert bytes_kept(plain, tokens) - bytes_kept(ours, tokens) == 1000 * 32 * 4


def test_of_pieces_the_tokens_alone_are_kept(force):
    force(pieces="pieces")
    ours, count = Layers(8, 32), 3 * PIECE
    tokens = torch.randn(count, 8, requires_grad=True)
    assert bytes_kept(ours, tokens) < 2 * count * 8 * 4  # the hidden layer alone would be four times the tokens


@pytest.mark.parametrize("form", choice.FORMS["pieces"])
def test_layers_are_called(force, form):
    """Forward hooks see what passes, and layers that wrap others, as LoRA's do, are trained."""

    class Wrapped(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer, self.added = layer, nn.Linear(layer.in_features, layer.out_features, bias=False)

        def forward(self, tokens):
            return self.layer(tokens) + self.added(tokens)

    force(pieces=form)
    layers, tokens = Layers(), torch.randn(5, 4)
    layers.fc1, layers.fc2 = Wrapped(layers.fc1), Wrapped(layers.fc2)
    plain = Layers(plain=True)
    plain.fc1, plain.fc2 = layers.fc1, layers.fc2
    seen = []
    handle = layers.fc2.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    trained = layers(tokens)
    assert seen == [(5, 4)]
    handle.remove()
    trained.sum().backward()
    found = [parameter.grad.clone() for parameter in (layers.fc1.added.weight, layers.fc2.added.weight)]
    layers.zero_grad()
    plain(tokens).sum().backward()
    assert_close(found, [layers.fc1.added.weight.grad, layers.fc2.added.weight.grad])
    with torch.no_grad():
        assert_close(layers(tokens), trained)


@pytest.mark.parametrize("form", choice.FORMS["pieces"])
def test_second_derivatives(force, form):
    force(pieces=form)
    ours, _ = both()
    tokens = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(ours.double(), (tokens,))


def test_transforms_of_functions(force):
    """torch.func's gradient for each sample is that of each sample alone."""
    force(pieces="pieces")
    ours, plain = both()
    weights, tokens = dict(ours.named_parameters()), torch.randn(3, 4)

    def loss(weights, token):
        return torch.func.functional_call(ours, weights, (token[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, tokens)
    for index, token in enumerate(tokens):
        expected = torch.autograd.grad(plain(token[None]).square().sum(), list(plain.parameters()))
        assert_close([gradient[index] for gradient in found.values()], list(expected))


@pytest.mark.parametrize("form", choice.FORMS["pieces"])
def test_gradients_in_autocast_have_the_precision_of_the_weights(force, form):
    force(pieces=form)
    layers, tokens = Layers(8, 32), torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        layers(tokens).float().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in layers.parameters())
    assert_close(layers.fc2.bias.grad, torch.full((8,), 5.0))


def test_a_small_map_goes_through_whole(force):
    """What it takes to compute it again would be saved for nothing."""
    calls = []
    apply_pointwise(torch.zeros(2, PIECE, 3, requires_grad=True), lambda piece: calls.append(len(piece)) or piece)
    assert calls == [2]
