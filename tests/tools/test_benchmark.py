"""The benchmark compares two forms of the same step, and says what it measured."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference.convmae import take_weights

from benchmarks import steps

ROOT = Path(__file__).parents[2]
SMALL = argparse.Namespace(arch="tiny", batch=2, dtype="float32", device="cpu", threads=1, compile=False)


@pytest.mark.parametrize("kind", [steps.PRETRAINING, "backbone inference", "backbone training step"])
def test_both_forms_compute_the_same(kind):
    plain, ours = (steps.Workload(kind, form, 64, SMALL) for form in steps.FORMS)
    take_weights(plain.model, ours.model)
    torch.testing.assert_close(plain.forward(), ours.forward(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["detector inference", "detector training step"])
def test_both_detectors_run(kind):
    for form in steps.FORMS:
        workload = steps.Workload(kind, form, 64, SMALL)
        workload()
        assert workload.forward().isfinite()


def test_the_visible_form_needs_fewer_operations():
    plain, ours = (steps.Workload(steps.PRETRAINING, form, 64, SMALL).forward_flops() for form in steps.FORMS)
    assert 0 < ours < plain


def test_operations_of_the_base_model_are_those_of_the_method():
    """GFLOP an image forward, counted by hand for 224×224: 34.4 for the published form, 22.5 for the visible blocks."""
    base = argparse.Namespace(**vars(SMALL) | {"arch": "base", "batch": 1})
    workload = steps.Workload(steps.PRETRAINING, steps.OURS, 224, base)
    assert workload.forward_flops() / 1e9 == pytest.approx(22.5, abs=0.1)


@pytest.mark.parametrize(
    "task", [["pretrain", "--size=32"], ["detect", "--sizes", "64", "96", "--kinds", "backbone inference"]]
)
def test_a_run_prints_and_writes_its_figures(tmp_path, task):
    path = tmp_path / "figures.json"
    options = ["--arch=tiny", "--batch=1", "--repeats=1", "--device=cpu", "--threads=1", f"--json={path}"]
    command = [sys.executable, str(ROOT / "tools/benchmark.py"), *task, *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(path.read_text())
    for row in figures["workloads"]:
        assert row["speedup"] > 0 and f"{row['speedup']:.2f} times as fast" in output
        for form in row["forms"].values():
            assert form["seconds"] > 0 and form["peak_memory_gb"] > 0 and 0 < form["share_of_matmul_rate"]
    assert ("time over operations" in output) == (len(figures["workloads"]) == 2)
