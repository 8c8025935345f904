"""The benchmark compares two forms of the same step, and says what it measured."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch
from reference import operations

from benchmarks import benchmark, steps
from benchmarks.published import take_weights
from convmae_det.config.presets import PRESETS
from convmae_det.costs import measuring

ROOT = Path(__file__).parents[2]
SMALL = argparse.Namespace(arch="tiny", batch=2, dtype="float32", device="cpu", threads=1, compile=False)


@pytest.mark.parametrize("kind", [steps.PRETRAINING, "backbone inference", "backbone training step"])
def test_both_forms_compute_the_same(kind):
    plain, ours = (steps.Workload(kind, form, 64, SMALL) for form in steps.FORMS)
    take_weights(plain.model, ours.model)
    torch.testing.assert_close(plain.forward(), ours.forward(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["detector inference", "detector training step"])
def test_both_detectors_run(monkeypatch, kind):
    def with_few_regions(*args):
        cfg = configuration(*args)
        cfg.MODEL.RPN.POST_NMS_TOPK_TEST = cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
        return cfg

    configuration = steps.configuration
    monkeypatch.setattr(steps, "configuration", with_few_regions)
    for form in steps.FORMS:
        workload = steps.Workload(kind, form, 64, argparse.Namespace(**vars(SMALL) | {"batch": 1}))
        workload()
        assert workload.forward().isfinite()


@pytest.mark.parametrize(("form", "gflop"), [(steps.PUBLISHED, 34.44), (steps.OURS, 22.45)])
def test_operations_are_those_of_the_method(form, gflop):
    """By formulas, which give 34.4 GFLOP for an image of 224×224 and the base model, for the visible blocks 22.5."""
    published = form == steps.PUBLISHED
    counted = steps.Workload(steps.PRETRAINING, form, 64, SMALL).count_forward()[0]
    assert counted == SMALL.batch * operations.autoencoder((4, 4), published=published, **PRESETS["tiny"]).total()
    base = operations.autoencoder((14, 14), published=published, **PRESETS["base"])
    assert base.total() / 1e9 == pytest.approx(gflop, abs=0.01)


def test_the_processor_is_named(monkeypatch):
    machine = measuring.describe_machine("cpu")
    assert machine["torch"] == torch.__version__
    assert machine["device"] == (
        f"{measuring.find_processor_name()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} threads"
    )
    monkeypatch.setattr(Path, "read_text", lambda path: "processor : 0\nmodel name\t: A CPU @ 2 GHz: new\n" * 2)
    assert measuring.find_processor_name() == "A CPU @ 2 GHz: new"
    monkeypatch.setattr(Path, "read_text", lambda path: "processor : 0\n")  # ARM
    assert measuring.find_processor_name()


OPTIONS = ["--arch=tiny", "--batch=1", "--repeats=1", "--device=cpu", "--threads=1"]


def check(figures: dict, output: str) -> None:
    assert figures["device"] in output.splitlines()[0]
    for row in figures["workloads"]:
        assert row["speedup"] > 0 and f"{row['speedup']:.2f} times as fast" in output
        for form in row["forms"].values():
            assert form["seconds"] > 0 and form["peak_memory_gb"] > 0 and form["forward_gigabytes_per_image"] >= 0
            assert 0 < form["share_of_matmul_rate"] <= form["share_of_roofline"] * (1 + 1e-9)
            assert f"{form['share_of_roofline']:5.0%} of the roofline" in output


def test_a_run_prints_and_writes_its_figures(monkeypatch, python, tmp_path, capsys):
    """Memory is measured by the same script in other processes."""
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks/benchmark.py")])
    monkeypatch.setitem(measuring.MATMUL_SIZE, "cpu", 64)
    monkeypatch.setitem(measuring.COPY_BYTES, "cpu", 1000)
    path = tmp_path / "figures.json"
    benchmark.main(["pretrain", "--size=32", *OPTIONS, f"--json={path}"])
    output = capsys.readouterr().out
    check(json.loads(path.read_text()), output)
    assert "convmae_det waits for images " in output
    assert "time over operations" not in output


def test_a_run_tells_how_time_grows_with_the_image(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(steps, "peak_memory", lambda *_: 10**9)
    monkeypatch.setitem(measuring.MATMUL_SIZE, "cpu", 64)
    monkeypatch.setitem(measuring.COPY_BYTES, "cpu", 1000)
    path = tmp_path / "figures.json"
    kinds = ["--kinds", "backbone inference"]
    benchmark.main(["detect", "--sizes", "64", "96", *kinds, *OPTIONS, f"--json={path}"])
    figures, output = json.loads(path.read_text()), capsys.readouterr().out
    check(figures, output)
    small, large = (1 / row["forms"][steps.OURS]["share_of_matmul_rate"] for row in figures["workloads"])
    assert f"relative to 64×64\n64: 1.00  96: {large / small:.2f}\n" in output
