"""Mixed precision as a GPU runs it gives what autocast gives, by fewer kernels, and no less exactly."""

from statistics import median

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from reference.small import autoencoder_cfg, gradients, randomise
from torch import nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from convmae_det.costs.gpu_step import Counts, KernelCounter
from convmae_det.modeling.blocks import ConvBlock, TransformerBlock
from convmae_det.modeling.masked_convolution import Dense
from convmae_det.ops import choice
from convmae_det.ops.layers import accelerate
from convmae_det.ops.recomputation import recompute_activations

TOKENS = torch.linspace(-3, 3, 2 * 4 * 4 * 8).sin().view(2, 4, 4, 8)


def transformer_block() -> nn.Module:
    block = randomise(TransformerBlock(8, 2, 4))
    accelerate(block)
    return block


def mixed() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def step(block: nn.Module, *inputs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The block's result for TOKENS, and the gradients of its parameters."""
    block.zero_grad()
    with mixed():
        result = block(TOKENS, *inputs)
    result.float().square().sum().backward()
    return result.detach(), {name: gradient.clone() for name, gradient in gradients(block).items()}


# --- weights cast together


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("kind", ["transformer", "convolution"])
def test_weights_cast_together_give_the_same(force, kind, recomputed):
    block, inputs = (transformer_block(), ()) if kind == "transformer" else (ConvBlock(8, 2), (Dense(),))
    accelerate(block)
    force(casts="each")
    expected = step(block, *inputs)
    if recomputed:
        recompute_activations(block, (TransformerBlock, ConvBlock))
    force(casts="together")
    assert_close(step(block, *inputs), expected, rtol=0, atol=0)


def test_one_kernel_casts_the_weights_of_a_block_and_one_their_gradients(force):
    force(casts="together")
    counts = Counts()
    with KernelCounter(counts):
        step(transformer_block())
    assert counts.operations["_foreach_copy_"] == 2
    force(casts="each")
    each = Counts()
    with KernelCounter(each):
        step(transformer_block())
    assert each.operations["_foreach_copy_"] == 0
    assert each.operations["_to_copy"] - counts.operations["_to_copy"] == 2 * 8  # 4 weights and 4 biases


def test_frozen_weights_get_no_gradient_and_the_others_do(force):
    force(casts="each")
    block = transformer_block()
    block.attn.requires_grad_(False)
    _, expected = step(block)
    force(casts="together")
    _, found = step(block)
    assert_close(found, expected, rtol=0, atol=0)
    assert not any(name.startswith("attn") for name in found)


def test_nothing_computes_gradients_of_frozen_weights_beside_trained_ones(force):
    block = transformer_block()
    block.mlp.requires_grad_(False)
    products = []
    for casts in choice.FORMS["casts"]:
        force(casts=casts)
        counts = Counts()
        with KernelCounter(counts):
            step(block)
        products.append([counts.operations["mm"], counts.operations["addmm"]])
    assert products[0] == products[1]


class Added(nn.Module):
    """A layer with another beside it, as LoRA has it."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer, self.added = layer, nn.Linear(layer.in_features, layer.out_features)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.layer(tokens) + self.added(tokens)


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def test_wrapped_and_parametrised_layers_are_trained(force):
    block = transformer_block()
    block.attn.qkv = Added(block.attn.qkv)
    parametrize.register_parametrization(block.mlp.fc1, "weight", Doubled())
    force(casts="each")
    expected = step(block)
    force(casts="together")
    assert_close(step(block), expected, rtol=0, atol=0)


def test_weights_given_from_outside_are_used(force):
    force(casts="together")
    block = transformer_block()
    zeros = {name: torch.zeros_like(tensor) for name, tensor in block.state_dict().items()}
    with mixed():
        assert_close(torch.func.functional_call(block, zeros, (TOKENS,)), TOKENS)


def test_gradients_of_gradients_pass_the_casts(force):
    force(casts="together", stream="wide")
    block, tokens = ConvBlock(8, 2), TOKENS.clone().requires_grad_()
    accelerate(block)
    with mixed():
        (gradient,) = torch.autograd.grad(block(tokens, Dense()).square().sum(), tokens, create_graph=True)
    gradient.square().sum().backward()
    assert block.mlp.fc1.weight.grad.any()


# --- tokens that stay narrow


def norm(dim: int = 64) -> nn.LayerNorm:
    layer = randomise(nn.LayerNorm(dim))
    accelerate(layer)
    return layer


def test_norms_of_narrow_tokens_give_narrow_ones_as_exactly_as_they_can_be_written(force):
    layer, tokens = norm(), torch.randn(50, 64).bfloat16().requires_grad_()
    results = []
    for form in choice.FORMS["stream"]:
        force(stream=form)
        layer.zero_grad()
        wide = tokens.detach().float().requires_grad_()
        with mixed():
            result = layer(tokens) if form == "narrow" else F.layer_norm(wide, (64,), layer.weight, layer.bias)
        result.float().sin().sum().backward()
        of_tokens = tokens.grad if form == "narrow" else wide.grad
        results.append([result.detach().float(), of_tokens.float(), layer.weight.grad, layer.bias.grad])
        assert (result.dtype == torch.bfloat16) == (form == "narrow")
    for name, plain, narrow in zip(("result", "tokens", "weight", "bias"), *results, strict=True):
        error = (narrow - plain).norm() / plain.norm()
        assert error < 2**-6, name


def normalise_in_float32(tokens, *rest):
    with torch.autocast("cpu", enabled=False):
        return torch.native_layer_norm(tokens.float(), *rest)


def test_norms_of_narrow_tokens_stay_narrow_under_the_autocast_of_a_gpu(force):
    """Which has layer norms among its operations in float32, unlike a CPU's."""
    force(stream="narrow")
    layer, tokens = norm(), torch.randn(50, 64).bfloat16().requires_grad_()
    with torch.library._scoped_library("aten", "IMPL", "AutocastCPU") as autocast:
        autocast.impl("native_layer_norm", normalise_in_float32)
        with mixed():
            assert torch.native_layer_norm(tokens, (64,), None, None, 1e-5)[0].dtype == torch.float32
            result = layer(tokens)
        result.float().sin().sum().backward()
    assert result.dtype == tokens.grad.dtype == torch.bfloat16


def test_weights_of_norms_are_not_rounded(force):
    """Over many tokens each channel is multiplied by its weight, not by what bfloat16 makes of it."""
    force(stream="narrow")
    layer, tokens = norm(), torch.randn(4000, 64).bfloat16()
    nn.init.zeros_(layer.bias)
    normal = F.layer_norm(tokens.float(), (64,))
    with mixed(), torch.no_grad():
        factors = (layer(tokens).float() * normal).sum(0) / normal.square().sum(0)
    rounding = (layer.weight.bfloat16() - layer.weight).square().mean().sqrt()
    assert (factors - layer.weight).square().mean().sqrt() < rounding / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_mixed_precision_nothing_changes(force, dtype):
    block, results = transformer_block().to(dtype), []
    for stream, casts in (("wide", "each"), ("narrow", "together")):
        force(stream=stream, casts=casts)
        results.append(block(TOKENS.to(dtype)))
    assert torch.equal(*results)


class Float32Norms(TorchFunctionMode):
    """Layer norms as autocast runs them on a GPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        wide = function is F.layer_norm and torch.is_autocast_enabled("cpu")
        return function(*([args[0].float(), *args[1:]] if wide else args), **(kwargs or {}))


def deviation(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def test_a_step_is_nearly_as_exact_as_by_autocast(force):
    """Compared with float32: the prediction, and the gradients of most parameters."""
    options = (
        "MODEL.CONVMAE.DEPTHS",
        [2, 2, 8],
        "MODEL.MAE.DECODER_DEPTH",
        4,
        "MODEL.CONVMAE.EMBED_DIMS",
        [16, 32, 64],
    )
    model = randomise(build_model(autoencoder_cfg(*options)))
    images, noise = torch.randn(8, 3, 64, 64), torch.rand(8, 16)

    def run(dtype: torch.dtype, **forms: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        force(**forms)
        model.zero_grad()
        with Float32Norms(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            result = model.reconstruct(images, noise)
        result.loss.backward()
        return result.prediction.detach().float(), {n: g.clone() for n, g in gradients(model).items()}

    exact, of_exact = run(torch.float32)
    errors = {}
    for form, casts in (("wide", "each"), ("narrow", "together")):
        found, of_found = run(torch.bfloat16, stream=form, casts=casts)
        errors[form] = deviation(found, exact), median(deviation(of_found[n], of_exact[n]) for n in of_exact)
    for wide, narrow in zip(errors["wide"], errors["narrow"], strict=True):
        assert wide < narrow < 0.05 and narrow < 3 * wide, errors


# --- the rule


def test_a_gpu_in_bfloat16_gets_narrow_forms_and_a_cpu_does_not(monkeypatch):
    monkeypatch.setattr(choice, "read_overrides", dict)
    wide, narrow = torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.bfloat16)

    def chosen() -> list:
        return [choice.stream_is_narrow(wide), choice.stream_is_narrow(narrow), choice.find_cast_together(wide)]

    with mixed():
        assert chosen() == [False, False, None]
        with choice.simulate_gpu():
            assert chosen() == [False, True, torch.bfloat16]
        assert chosen() == [False, False, None]
    with choice.simulate_gpu(), torch.autocast("cpu", torch.float16):
        assert not choice.stream_is_narrow(wide.half()) and choice.find_cast_together(wide) == torch.float16
    with choice.simulate_gpu():
        assert chosen() == [False, False, None]
