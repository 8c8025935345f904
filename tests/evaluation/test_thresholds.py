"""The threshold of the highest F1, and the files that hold those of an evaluation."""

import json

import numpy as np
import pytest

from convmae_det.errors import InputError
from convmae_det.evaluation.thresholds import (
    compute_f1,
    find_best_point,
    find_thresholds,
    list_chosen_thresholds,
    read_thresholds,
)

SCORE = np.array([0.3, 0.9, 0.7, 0.5, 0.7])
RIGHT = np.array([False, True, True, False, False])


def test_the_best_threshold():
    """Of 3 objects, 0.9 keeps 1 of 1 right (F1 1/2), 0.7 2 of 3 (2/3), 0.5 2 of 4, 0.3 2 of 5."""
    point = find_best_point(SCORE, RIGHT, 3)
    assert (point.threshold, point.precision, point.recall, point.F1) == pytest.approx((0.7, 2 / 3, 2 / 3, 2 / 3))
    assert compute_f1(SCORE, RIGHT, 3, np.array([0, 0.3, 0.5, 0.7, 0.71, 0.9, 0.91])) == pytest.approx(
        [1 / 2, 1 / 2, 4 / 7, 2 / 3, 1 / 2, 1 / 2, 0]
    )


def test_of_equal_f1_the_highest_threshold():
    """0.9 keeps 1 of 1 right, 0.2 2 of 3: of 1 object more each has F1 2/3 or less."""
    assert find_best_point(np.array([0.9, 0.2, 0.2, 0.1]), np.array([True, True, False, False]), 2).threshold == 0.2
    assert find_best_point(np.array([0.9, 0.5, 0.4, 0.3]), np.array([True, False, False, True]), 2).threshold == 0.9


def test_nothing_right_has_no_threshold():
    point = find_best_point(SCORE, np.zeros(5, bool), 3)
    assert (point.threshold, point.precision, point.recall, point.F1) == (None, None, 0, 0)
    assert find_best_point(SCORE, np.zeros(5, bool), 0).recall is None


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_class_without_its_own_has_that_of_all(tmp_path):
    classes = [{"name": "a", "threshold": 0.4}, {"name": "b", "threshold": None}]
    tasks = {"bbox": {"overall": {"threshold": 0.1}, "classes": []}, "segm": {"overall": {"threshold": 0.3}}}
    tasks["segm"]["classes"] = classes
    chosen = list_chosen_thresholds({"tasks": tasks})
    assert chosen == {"task": "segm", "overall": 0.3, "classes": {"a": 0.4, "b": 0.3}}
    assert read_thresholds(write(tmp_path / "t.json", chosen), ["b", "a"]) == [0.3, 0.4]


def test_the_file_lies_beside_weights_or_configuration(tmp_path):
    weights, config = tmp_path / "one" / "model.pth", tmp_path / "two" / "config.yaml"
    with pytest.raises(InputError, match="there is no inference/thresholds.json beside the weights .* --thresholds"):
        find_thresholds(None, weights, config)
    second = write(tmp_path / "two/inference/val/thresholds.json", {})
    assert find_thresholds(None, weights, config) == str(second)
    first = write(tmp_path / "one/inference/thresholds.json", {})
    assert find_thresholds(None, weights, config) == str(first)
    assert find_thresholds("given.json", weights, config) == "given.json"
    write(tmp_path / "one/inference/val/ema/thresholds.json", {})
    with pytest.raises(InputError, match="thresholds of several evaluations"):
        find_thresholds(None, weights, config)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ([], "holds no thresholds"),
        ({"classes": {"a": 0.5, "c": 0.5}}, "has thresholds of a, c, but the detector's classes are a, b"),
        ({"classes": {"a": 0.5, "b": None}}, "the evaluation found nothing right"),
        ({"classes": {"a": 0.5, "b": 50}}, "no numbers from 0 to 1"),
    ],
)
def test_files_that_can_not_be_used(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        read_thresholds(write(tmp_path / "t.json", content), ["a", "b"])
