"""The benchmark of the evaluation times what gives equal results, and stops at what doesn't."""

import argparse
import json

import numpy as np
import pytest

from benchmarks import evaluate
from convmae_det.errors import InputError


def arguments(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args([*words, "--count=12", "--detections=20"])


def test_a_run_gives_its_figures(capsys):
    result = json.loads(json.dumps(evaluate.measure(arguments())))
    evaluate.report(result)
    output = capsys.readouterr().out
    for task in ("bbox", "segm"):
        figures = result["tasks"][task]
        assert {evaluate.REFERENCE, evaluate.METRICS, evaluate.EXPLAINED} <= figures["seconds"].keys()
        assert 5 < figures["AP"] < 95 and figures["share"][evaluate.REFERENCE] == 1
        assert all(difference <= 1e-7 for difference in figures["difference"].values())
        assert f"{task}: AP {figures['AP']:.3f}" in output


def test_other_results_end_the_run(monkeypatch):
    ways = {evaluate.REFERENCE: np.array([30.0, 50.0]), "wrong": np.array([30.0, 50.001])}
    monkeypatch.setattr(
        evaluate, "list_ways", lambda *arguments: {name: (lambda found=found: found) for name, found in ways.items()}
    )
    with pytest.raises(SystemExit, match=r"^error: bbox of wrong differs from pycocotools's by 0.001$"):
        evaluate.measure(arguments())


def test_bad_counts_are_named():
    with pytest.raises(InputError, match="--count"):
        evaluate.measure(argparse.Namespace(count=0, detections=1, tasks=["bbox"], repeats=1))
