"""The benchmark of forms times each, as a user would force it, and says which the rule takes."""

import argparse
import json
import os

import pytest
import torch

from benchmarks import forms
from convmae_det.ops import choice

SMALL = argparse.Namespace(task="forms", sides=[4], operations=list(forms.BUILD), repeats=1)


@pytest.fixture(autouse=True)
def one_call(monkeypatch):
    monkeypatch.setattr(forms, "LEAST_SECONDS", 0)


def test_a_run_gives_the_figures_of_every_form(capsys):
    result = json.loads(json.dumps(forms.measure(SMALL)))
    forms.report(result)
    output = capsys.readouterr().out
    assert [row["operation"] for row in result["rows"]] == list(forms.BUILD)
    for row in result["rows"]:
        names = choice.FORMS[row["operation"]]
        assert row["seconds"].keys() == {f"{form} {mode}" for form in names for mode in ("forward", "training")}
        assert min(row["seconds"].values()) > 0
        assert set(row["chosen"].split(", ")) <= set(names) and f"chosen: {row['chosen']}" in output


@pytest.mark.parametrize("operation", forms.BUILD)
def test_forms_give_the_same(operation):
    found = []
    for form in choice.FORMS[operation]:
        torch.manual_seed(0)
        run, inputs, _ = forms.BUILD[operation](6)
        with forms.forced(operation, form):
            result = run()
            found.append([result, *torch.autograd.grad(result.square().mean(), inputs)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_the_rule_is_back_in_force_afterwards(monkeypatch):
    monkeypatch.setenv("CONVMAE_OPS", "pieces=whole")
    choice.read_overrides.cache_clear()
    with forms.forced("linear", "convolution"):
        assert choice.read_overrides() == {"linear": "convolution"}
    assert choice.read_overrides() == {"pieces": "whole"} and os.environ["CONVMAE_OPS"] == "pieces=whole"
    monkeypatch.delenv("CONVMAE_OPS")
    choice.read_overrides.cache_clear()
