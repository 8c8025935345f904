"""The benchmark of the evaluation times what gives equal results, and stops at what doesn't."""

import argparse
import json

import pytest
from pycocotools.cocoeval import COCOeval

from benchmarks import evaluate
from convmae_det.errors import InputError


def arguments(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args([*words, "--count=12", "--detections=20"])


class Wrong(COCOeval):
    def summarize(self):
        super().summarize()
        self.stats[0] += 1e-6


def test_a_run_gives_its_figures(capsys):
    result = json.loads(json.dumps(evaluate.measure(arguments())))
    evaluate.report(result)
    output = capsys.readouterr().out
    for task in ("bbox", "segm"):
        figures = result["tasks"][task]
        assert evaluate.REFERENCE in figures["seconds"] and 0.05 < figures["AP"] < 0.95
        assert all(difference <= 1e-9 for difference in figures["difference"].values())
        assert f"{task}: AP {100 * figures['AP']:.3f}" in output


def test_only_pycocotools(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "FASTER", {"missing": ("no_such_module", "Evaluation")})
    evaluate.report(evaluate.measure(arguments("--tasks", "bbox")))
    assert "nothing to compare with" in capsys.readouterr().out


def test_other_results_end_the_run(monkeypatch):
    monkeypatch.setattr(evaluate, "implementations", lambda: {evaluate.REFERENCE: COCOeval, "wrong": Wrong})
    with pytest.raises(SystemExit, match=r"^error: bbox of wrong differs from pycocotools's by 1e-06$"):
        evaluate.measure(arguments())


def test_bad_counts_are_named():
    with pytest.raises(InputError, match="--count"):
        evaluate.measure(argparse.Namespace(count=0, detections=1, tasks=["bbox"], repeats=1))
