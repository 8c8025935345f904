"""Accuracies against counting by hand."""

import json

import pytest
import torch

from convmae_det.errors import InputError
from convmae_det.evaluation.classification import (
    ClassificationEvaluator,
    choose_best_metric,
    format_classes,
    list_measures,
    summarize,
)

CLASSES = ["ant", "bee", "cat", "dog", "eel", "fly"]


def test_counted_by_hand():
    labels = torch.tensor([0, 0, 0, 1, 1, 5])
    found = torch.tensor([[0, 1], [1, 0], [2, 3], [1, 0], [0, 1], [5, 0]])
    summary = summarize(labels, found, CLASSES)
    assert summary["top1"] == pytest.approx(50) and summary["top5"] == pytest.approx(500 / 6)
    assert summary["class_mean"] == pytest.approx((100 / 3 + 50 + 100) / 3)
    assert summary["confusion"][0] == [1, 1, 1, 0, 0, 0] and summary["images"] == 6
    assert summary["classes"][1] == {"name": "bee", "accuracy": 50.0, "images": 2}
    assert summary["classes"][2] == {"name": "cat", "accuracy": None, "images": 0}
    assert "| bee" in format_classes(summary) and "ant (1)" in format_classes(summary)


def test_batches_in_any_cut_and_uncounted_images(tmp_path):
    labels, scores = torch.randint(0, 6, (20,)), torch.rand(20, 6)
    labels[3] = -1
    results = []
    for size in (20, 7):
        evaluator = ClassificationEvaluator("data", CLASSES, str(tmp_path))
        for start in range(0, 20, size):
            part = slice(start, start + size)
            skipped = [("broken.png", "is empty")] if start == 0 else []
            inputs = {"labels": labels[part], "skipped": skipped}
            evaluator.process(inputs, [{"scores": row} for row in scores[part]])
        results.append(evaluator.evaluate())
    counted = labels >= 0
    assert results[0] == results[1]
    assert results[0]["top1"] == pytest.approx(100 * (scores.argmax(1) == labels)[counted].double().mean().item())
    written = json.loads((tmp_path / "classification_results.json").read_text())
    assert written["images"] == 19 and written["skipped"] == ["broken.png"] and written["top5"] == results[0]["top5"]


def test_nothing_to_evaluate():
    evaluator = ClassificationEvaluator("data", CLASSES)
    inputs = {"labels": torch.tensor([-1]), "skipped": [("a.png", "is empty")]}
    evaluator.process(inputs, [{"scores": torch.rand(6)}])
    with pytest.raises(InputError, match="^None of the 1 images of data can be read: a.png"):
        evaluator.evaluate()


def test_five_of_five_is_no_measure():
    assert list_measures(5) == ("top1", "class_mean") and "top5" in list_measures(6)


def test_the_best_metric():
    from reference.small import classifier_cfg

    cfg = classifier_cfg("DATASETS.TEST", ("a",))
    assert choose_best_metric(cfg) == "top1"
    cfg.DATASETS.TEST, cfg.SOLVER.EMA.DECAY, cfg.TEST.BEST_METRIC = ("a", "b"), 0.9, "ema/b/class_mean"
    assert choose_best_metric(cfg) == "ema/b/class_mean"
    cfg.TEST.BEST_METRIC = "top1"
    with pytest.raises(InputError, match=r"^TEST.BEST_METRIC is 'top1'; it must be one of a/top1, "):
        choose_best_metric(cfg)
    cfg.DATASETS.TEST = ()
    with pytest.raises(InputError, match="must be empty without DATASETS.TEST"):
        choose_best_metric(cfg)
