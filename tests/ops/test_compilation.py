"""Compilation, where there is a compiler and where there is none."""

import logging

import pytest
import torch
from torch import nn

from convmae_det.ops import compilation
from convmae_det.ops.compilation import compile_modules


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(4, 4), nn.GELU())


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
        "MODEL.COMPILE is True, but nothing can be compiled here (No working C++ compiler found), so that "
    )
    assert count_compiled(model) == 0 and torch.equal(model(images), expected)
