"""Compilation, where there is a compiler and where there is none."""

import logging

import pytest
import torch
from reference.small import autoencoder_cfg
from torch import nn

from convmae_det.inference import model as inference_model
from convmae_det.ops import compilation
from convmae_det.ops.compilation import compile_modules


class Layer(nn.Linear):
    """Some versions of PyTorch compile no layers of its own by themselves."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens)


@pytest.fixture
def model():
    return nn.Sequential(Layer(4, 4), nn.GELU())


def count_compiled(model):
    return sum(module._compiled_call_impl is not None for module in model.modules())


def test_only_modules_of_these_kinds_are_compiled(model, monkeypatch):
    monkeypatch.setattr(compilation, "_try_compiling", lambda device: None)
    names = list(model.state_dict())
    compile_modules(model, nn.Linear)
    assert count_compiled(model) == 1 and list(model.state_dict()) == names


def test_where_nothing_can_be_compiled_one_line_says_so_and_the_model_runs_as_it_is(model, monkeypatch, caplog):
    def fail(function):
        raise RuntimeError("No working C++ compiler found.\nA line.\nAnother.")

    monkeypatch.setattr("torch.compile", fail)
    images = torch.ones(2, 4)
    expected = model(images)
    with caplog.at_level(logging.WARNING, "convmae_det"):
        compile_modules(model, nn.Linear)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "nothing can be compiled here (No working C++ compiler found), so that it runs without: install "
    )
    assert count_compiled(model) == 0 and torch.equal(model(images), expected)


def test_a_module_that_cannot_be_compiled_runs_as_it_is_with_one_line(model, monkeypatch, caplog):
    def fail(graph, inputs):
        raise RuntimeError("no kernel for this.\nA line.\nAnother.")

    monkeypatch.setattr(compilation, "_try_compiling", lambda device: None)
    monkeypatch.setattr(compilation, "lookup_backend", lambda name: fail)
    tokens = torch.ones(2, 4)
    expected = model(tokens)
    compile_modules(model, nn.Linear)
    with caplog.at_level(logging.WARNING, "convmae_det"):
        found = [model(tokens), model(tokens)]
    assert torch.equal(found[0], expected) and torch.equal(found[1], expected)
    (record,) = caplog.records
    assert record.getMessage().startswith("a part of the model can't be compiled (no kernel for this), so that")
    found[0].sum().backward()
    assert model[0].weight.grad is not None


@pytest.mark.parametrize(
    ("value", "device", "for_long", "compiles"),
    [
        ("auto", "cpu", True, False),
        ("auto", "cuda", True, True),
        ("auto", "cuda:1", False, False),  # a few images would be done before the compiler is
        (None, "cuda", True, True),  # the default
        (True, "cpu", False, True),
        (False, "cuda", True, False),
    ],
)
def test_auto_compiles_what_runs_for_long_on_a_gpu(monkeypatch, value, device, for_long, compiles):
    called = []
    monkeypatch.setattr(inference_model, "compile_modules", lambda model, kinds: called.append(kinds))
    monkeypatch.setattr(inference_model, "speed_up_float32", lambda device, precision: "")
    monkeypatch.setattr(inference_model, "build_registered", lambda cfg: nn.Linear(1, 1))
    cfg = autoencoder_cfg()
    cfg.MODEL.COMPILE, cfg.MODEL.DEVICE = value, device
    inference_model.build_model(cfg, for_long)
    assert bool(called) == compiles
