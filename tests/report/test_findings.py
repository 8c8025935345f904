"""What is wrong is said in sentences, the largest loss first."""

import pytest

from convmae_det.evaluation.error_kinds import KINDS as EVALUATED
from convmae_det.evaluation.error_kinds import MISSED
from convmae_det.report.errors import KINDS
from convmae_det.report.findings import find_faults, find_trends


@pytest.fixture
def explanation():
    """An evaluation in which nothing stands out."""
    classes = [
        {"name": "cat", "objects": 90, "AP": 60.0},
        {"name": "dog", "objects": 90, "AP": 40.0},
    ]
    return {
        "tasks": {
            "segm": {
                "metrics": {"AP": 50.0, "APs": 48.0, "APm": 50.0, "APl": 52.0},
                "classes": classes,
                "overall": {"threshold": 0.4, "precision": 80.0, "recall": 70.0, "F1": 74.7},
                "calibration": {"bins": [], "error": 3.0},
                "errors": {name: {"count": 3, "gain": 0.1} for name in KINDS},
            }
        }
    }


def test_every_kind_of_the_evaluation_is_described():
    assert set(KINDS) == {*EVALUATED, MISSED}
    assert len({kind.letter for kind in KINDS.values()}) == len(KINDS)


def test_nothing_is_wrong(explanation):
    assert find_faults(explanation) == [
        "No kind of error stands out: none alone costs half a point of AP50.",
        "The classes with the lowest mask AP: dog (40.0); the mean is 50.0.",
        "With a score threshold of 0.40, 80 % of its detections are right (precision) and 70 % of the objects are "
        "found (recall): the best balance of the two. convmae-det predict --score-threshold auto takes the best of "
        "each class.",
    ]


def test_the_largest_loss_comes_first(explanation):
    errors = explanation["tasks"]["segm"]["errors"]
    errors["duplicate"] = {"count": 12, "gain": 4.0}
    errors["class"] = {"count": 2, "gain": 9.0}
    first, second, *_ = find_faults(explanation)
    assert first.startswith("The largest loss: “wrong class”") and "9.0 points" in first and "confused" in first
    assert second.startswith("Next: “found twice”") and "NMS_THRESH_TEST" in second


def test_sizes_rare_classes_and_scores(explanation):
    found = explanation["tasks"]["segm"]
    found["metrics"]["APs"] = 10.0
    found["classes"][0]["objects"] = 4
    bins = [{"score": 0.9, "precision": 50.0, "count": 10}, {"score": None, "precision": None, "count": 0}]
    found["calibration"] = {"bins": bins, "error": 40.0}
    text = " ".join(find_faults(explanation))
    assert "finds small objects least well: mask AP 10.0, against 52.0 for large ones. Larger images" in text
    assert "fewer than 20 objects of each: cat." in text
    assert "off by 40 percent, mostly too high" in text


def test_an_evaluation_without_numbers(explanation):
    found = explanation["tasks"]["segm"]
    found["metrics"] = dict.fromkeys(found["metrics"])
    found["classes"] = [{"name": "cat", "objects": 0, "AP": None}]
    found["overall"] = dict.fromkeys(found["overall"])
    found["calibration"] = {"bins": [], "error": None}
    found["errors"] = {name: {"count": 0, "gain": None} for name in KINDS}
    assert len(find_faults(explanation)) == 1


@pytest.mark.parametrize(
    "values, told",
    [([1, 2], ""), ([10, 20, 30], "still rising"), ([10, 30, 20], "best after 200 iter"), ([9, 10, 10], "")],
)
def test_the_length_of_the_training(values, told):
    curve = [(100 * number + 99, float(value)) for number, value in enumerate(values)]
    sentences = find_trends({"bbox/AP": curve}, "bbox")
    assert told in " ".join(sentences) and bool(sentences) == bool(told)
