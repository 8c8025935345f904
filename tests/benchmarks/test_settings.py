"""The benchmark of settings measures each of them, as a configuration that trains what it says."""

import argparse
import json
import os

import pytest

from benchmarks import settings
from convmae_det.engine import start

TINY = "configs/quickstart/mask_rcnn_convmae_tiny_shapes.yaml"


@pytest.fixture
def measured(monkeypatch):
    """Workloads whose memory the benchmark asked for, in place of measuring it."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    seen = []
    monkeypatch.setattr(settings, "measure_peak_memory", lambda workload, size: seen.append(workload) or 10**9)
    return seen


def measure(*words):
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    args = parser.parse_args(["--config-file", TINY, "--device", "cpu", *words])
    args.threads = 1
    return json.loads(json.dumps(settings.measure(args)))


def test_a_run_gives_the_memory_of_all_settings(measured, capsys):
    result = measure("--sizes", "64", "128")
    assert [(row["settings"], row["size"]) for row in result["rows"]] == [
        (name, size) for size in (64, 128) for name in settings.SETTINGS
    ]
    assert os.environ["MALLOC_MMAP_THRESHOLD_"] == str(settings.GIVE_BACK)
    assert all(workload.train and workload.batch_size == 1 for workload in measured)
    settings.report(result)
    assert "FREEZE_STAGES 2 SOLVER.LORA_RANK 16" in capsys.readouterr().out


def test_fewer_settings_train_fewer_weights(measured):
    pytest.importorskip("peft")
    measure("--sizes", "64", "--pairs", "SOLVER.LORA_RANK", "0", "--settings", "all")
    measure("--sizes", "64", "--settings", "frozen", "adapted", "frozen and adapted")
    models = [start.build_model_to_train(workload.cfg) for workload in measured]
    every, frozen, adapted, both = (
        sum(weight.numel() for weight in model.parameters() if weight.requires_grad) for model in models
    )
    assert every > frozen > both and every > adapted > both
