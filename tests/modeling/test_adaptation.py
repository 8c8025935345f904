"""What users do to a finished encoder works in training as in inference: adapters, quantisation, export."""

import warnings

import pytest
import torch
from reference.small import assert_near, randomise
from torch import nn
from torch.testing import assert_close

from convmae_det.modeling.attention import Window
from convmae_det.modeling.encoder import Encoder
from convmae_det.ops import choice

SHAPE = dict(embed_dims=(8, 12, 16), depths=(1, 1, 3), num_heads=2, mlp_ratios=(2, 2, 2), grid=(4, 4), final_norm=False)
KINDS = {
    "plain": {},
    "detector's": dict(windows=[None, Window(3), Window(3, 1)], relative_position="shared"),
    "ViTDet's": dict(windows=[None, Window(3), Window(3, 1)], relative_position="decomposed"),
}


@pytest.fixture(params=KINDS)
def encoder(request) -> Encoder:
    return randomise(Encoder(**SHAPE, **KINDS[request.param]))


@pytest.fixture(params=["rule", "fast"])
def forms(request, monkeypatch):
    """What the machine would choose, and every form that isn't plain."""
    if request.param == "fast":
        fast = {operation: forms[1] for operation, forms in choice.FORMS.items()}
        monkeypatch.setattr(choice, "read_overrides", lambda: fast)


def test_low_rank_adapters(forms, encoder):
    """Each adapter gets a gradient, and training computes what inference computes."""
    from peft import LoraConfig, get_peft_model  # brings transformers along

    targets = ["qkv", "proj", "fc1", "fc2"]
    config = LoraConfig(target_modules=targets, r=2, init_lora_weights=False)
    adapted = get_peft_model(encoder, config)
    images = torch.randn(2, 3, 64, 80)
    trained = adapted(images)
    with torch.no_grad():
        for features, others in zip(adapted(images), trained, strict=True):
            assert_near(features, others, 1e-6)
    sum(features.square().sum() for features in trained).backward()
    adapters = {name: p for name, p in adapted.named_parameters() if "lora" in name}
    assert len(adapters) == 2 * sum(name.endswith(tuple(targets)) for name, _ in Encoder(**SHAPE).named_modules())
    for name, adapter in adapters.items():
        assert adapter.grad is not None and adapter.grad.any(), name


@pytest.mark.skipif(not hasattr(torch.ao, "quantization"), reason="this PyTorch has no eager quantisation")
@pytest.mark.skipif(not torch.backends.quantized.supported_engines, reason="no kernels of quantised layers here")
def test_dynamic_quantisation_finds_every_linear_layer(forms, encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to move to another package
        quantised = torch.ao.quantization.quantize_dynamic(encoder.eval(), {nn.Linear}, dtype=torch.qint8)
    remaining = [name for name, layer in quantised.named_modules() if isinstance(layer, nn.Linear)]
    assert not remaining
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, exact in zip(quantised(images), encoder(images), strict=True):
            assert (ours - exact).norm() < 0.2 * exact.norm()


@pytest.mark.parametrize(
    "options",
    [
        dict(depths=(1, 1, 1)),
        dict(depths=(0, 0, 2), windows=[None, Window(3, 1)], relative_position="shared"),
        dict(depths=(0, 0, 2), windows=[None, Window(3)], relative_position="decomposed"),
    ],
    ids=KINDS,
)
def test_exported_with_dynamic_sizes(options):
    """One program for all sizes of at least two windows, those included where a plain run would choose another form.

    Each block but once, for exporting one takes seconds.
    """
    encoder = randomise(Encoder(**SHAPE | options))
    sides = {axis: 16 * torch.export.Dim(name, min=4, max=64) for axis, name in ((2, "h"), (3, "w"))}
    program = torch.export.export(
        encoder.eval(), (torch.randn(1, 3, 64, 96),), dynamic_shapes={"images": sides}, strict=False
    ).module()
    for size in [(64, 96), (64, 64), (80, 112), (400, 416)]:
        images = torch.randn(1, 3, *size)
        assert_close(program(images), encoder(images), rtol=1e-3, atol=1e-4)
