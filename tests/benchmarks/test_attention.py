"""The benchmark of attention times forms that give the same, and stops at one that doesn't."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import attention

ROOT = Path(__file__).parents[2]
SMALL = argparse.Namespace(
    task="attention", arch="tiny", size=64, dtype="float32", device="cpu", threads=1, repeats=1, form=None, mode=None
)


@pytest.fixture
def no_compiler(monkeypatch):
    def refuse():
        raise RuntimeError("no compiler\nnor anything else")

    monkeypatch.setattr(attention, "compiled_flex", refuse)


@pytest.mark.parametrize("mode", [attention.INFERENCE, attention.TRAINING])
def test_all_forms_give_the_same(mode):
    expected, *others = (attention.Workload(form, mode, SMALL)() for form in attention.FORMS if form != "flex")
    for other in others:
        torch.testing.assert_close(other, expected, rtol=1e-4, atol=1e-4)
    assert expected.shape == ((4, 7, 7) if mode == attention.TRAINING else (1, 4, 16, 32))


def test_a_run_gives_its_figures(monkeypatch, no_compiler, capsys):
    monkeypatch.setattr(attention, "peak_memory", lambda form, mode, args: 10**9)
    result = json.loads(json.dumps(attention.measure(SMALL)))
    attention.report(result)
    output = capsys.readouterr().out
    for figures in result["modes"].values():
        assert set(figures["seconds"]) == set(attention.FORMS) - {"flex"}
        assert all(seconds > 0 for seconds in figures["seconds"].values())
    assert output.count("flex          can't be used: no compiler\n") == 2


def test_a_wrong_form_stops_it(monkeypatch, no_compiler):
    monkeypatch.setitem(attention.FORMS, "fused", lambda *parts: [2 * r for r in attention.materialised(*parts)])
    with pytest.raises(SystemExit, match="the result of fused in inference differs by 1.0e.00"):
        attention.measure(SMALL)


def test_memory_is_that_of_a_process_of_its_own(monkeypatch, python):
    """512 pixels: 1,024 tokens, of which the plain form holds (4, L, L) logits and probabilities."""
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks/benchmark.py")])
    larger = argparse.Namespace(**vars(SMALL) | {"size": 512})
    plain, ours = (attention.peak_memory(form, attention.INFERENCE, larger) for form in ("materialised", "by table"))
    assert plain > 2 * 4 * 1024**2 * 4 > ours > 0
