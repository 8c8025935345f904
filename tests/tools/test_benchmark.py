"""The benchmark compares two forms of the same step, and says what it measured."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference.convmae import take_weights

import benchmark

ROOT = Path(__file__).parents[2]
SMALL = argparse.Namespace(arch="tiny", batch=2, size=64, dtype="float32", device="cpu", threads=1)


def test_both_forms_compute_the_same_loss():
    plain, ours = (benchmark.PretrainingStep(form, SMALL) for form in (benchmark.PUBLISHED, benchmark.OURS))
    take_weights(plain.model, ours.model)
    torch.testing.assert_close(plain.loss(), ours.loss(), rtol=1e-5, atol=1e-6)


def test_the_visible_form_needs_fewer_operations():
    plain, ours = (
        benchmark.PretrainingStep(form, SMALL).forward_flops() for form in (benchmark.PUBLISHED, benchmark.OURS)
    )
    assert 0 < ours < plain


def test_operations_of_the_base_model_are_those_of_the_method():
    """GFLOP an image forward, counted by hand for 224×224: 34.4 for the published form, 22.5 for the visible blocks."""
    base = argparse.Namespace(**vars(SMALL) | {"arch": "base", "batch": 1, "size": 224})
    assert benchmark.PretrainingStep(benchmark.OURS, base).forward_flops() / 1e9 == pytest.approx(22.5, abs=0.1)


def test_a_run_prints_and_writes_its_figures(tmp_path):
    path = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "tools/benchmark.py"), "pretrain", "--arch=tiny", "--batch=1", "--size=32"]
    output = subprocess.run(
        [*command, "--repeats=1", "--device=cpu", "--threads=1", f"--json={path}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    figures = json.loads(path.read_text())
    assert figures["speedup"] > 0 and f"{figures['speedup']:.2f} times as fast" in output
    for form in figures["forms"].values():
        assert form["seconds"] > 0 and form["peak_memory_gb"] > 0 and 0 < form["share_of_matmul_rate"]
