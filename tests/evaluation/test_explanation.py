"""Errors of each kind, in data made to hold one of each: counts, verdicts and gains are those found by hand."""

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from convmae_det.evaluation.calibration import calibrate
from convmae_det.evaluation.explanation import explain_results, list_scores
from convmae_det.evaluation.metrics import evaluate_results

SIDE = 100
TASKS = ("bbox", "segm")
PLACE, SHIFTED = [20, 20, 40, 40], [40, 20, 40, 40]  # which overlap by a third
A, B = 7, 9


def shape(box):
    x, y, w, h = box
    (mask,) = run_lengths.frPyObjects([[x, y, x + w, y, x + w, y + h, x, y + h]], SIDE, SIDE)
    return {"bbox": box, "segmentation": mask | {"counts": mask["counts"].decode()}}


# By image: the class of the object at PLACE, if there is one; and detections: class, box, score.
IMAGES = {
    "right": (A, [(A, PLACE, 0.95)]),
    "class": (A, [(B, PLACE, 0.9)]),
    "localisation": (A, [(A, SHIFTED, 0.85)]),
    "both": (A, [(B, SHIFTED, 0.8)]),
    "duplicate": (A, [(A, PLACE, 0.98), (A, PLACE, 0.97)]),
    "background": (None, [(A, PLACE, 0.96)]),
    "missed": (A, []),
    "other class": (B, [(B, PLACE, 0.6)]),
}


@pytest.fixture
def data():
    truth = {"images": [], "annotations": [], "categories": [{"id": A, "name": "a"}, {"id": B, "name": "b"}]}
    results = []
    for number, (name, (category, found)) in enumerate(IMAGES.items(), start=1):
        truth["images"].append({"id": number, "file_name": name, "height": SIDE, "width": SIDE})
        if category:
            entry = {"id": number, "image_id": number, "category_id": category, "area": 1600, "iscrowd": 0}
            truth["annotations"].append(entry | shape(PLACE))
        for category, box, score in found:
            results.append({"image_id": number, "category_id": category, "score": score} | shape(box))
    return truth, results


def ap50(found, objects):
    """AP of a class, from whether each detection is right, T or F, by falling score."""
    points = [(found[:end].count("T"), found[:end].count("T") / end) for end in range(1, len(found) + 1)]
    best = [max((p for hits, p in points if 100 * hits >= recall * objects), default=0) for recall in range(101)]
    return 100 * sum(best) / 101


PRESENT = (ap50("TFFTF", 6) + ap50("FFT", 1)) / 2
MENDED = {
    "class": (ap50("TFFTTF", 6) + ap50("FT", 1)) / 2,
    "localisation": (ap50("TFFTT", 6) + ap50("FFT", 1)) / 2,
    "both": (ap50("TFFTF", 6) + ap50("FT", 1)) / 2,
    "duplicate": (ap50("TFTF", 6) + ap50("FFT", 1)) / 2,
    "background": (ap50("TFTF", 6) + ap50("FFT", 1)) / 2,
    "missed": (ap50("TFFTF", 4) + ap50("FFT", 1)) / 2,  # those of the images both and missed
    "false_positives": (ap50("TT", 6) + ap50("T", 1)) / 2,
    "false_negatives": (ap50("TFFTF", 2) + ap50("FFT", 1)) / 2,
}


def test_gains_are_those_of_mending_one_kind(data):
    explanation = explain_results(*data, TASKS)
    for task in TASKS:
        described = explanation["tasks"][task]
        assert described["metrics"]["AP50"] == pytest.approx(PRESENT)
        gains = {kind: error["gain"] for kind, error in described["errors"].items()}
        assert gains == pytest.approx({kind: mended - PRESENT for kind, mended in MENDED.items()})
        assert all(gain > 0 for gain in gains.values())


def test_counts_are_those_at_the_best_thresholds(data):
    """They are 0.95 for a, so that the detection beside its object falls away, and 0.6 for b."""
    explanation = explain_results(*data, TASKS)
    for task in TASKS:
        described = explanation["tasks"][task]
        a, b = described["classes"]
        assert (a["threshold"], a["objects"], a["detections"]) == (0.95, 6, 5)
        assert [a[name] for name in ("precision", "recall", "F1")] == pytest.approx([50, 100 / 3, 40])
        assert [b[name] for name in ("threshold", "precision", "recall", "F1")] == pytest.approx(
            [0.6, 100 / 3, 100, 50]
        )
        overall = described["overall"]  # 3 of all 8 are right, of 7 objects; 2 of the first 4 are
        assert overall["threshold"] == 0.6 and overall["F1"] == pytest.approx(100 * 6 / 15)
        assert {kind: error["count"] for kind, error in described["errors"].items()} == {
            "localisation": 0,
            "class": 1,
            "duplicate": 1,
            "both": 1,
            "background": 1,
            "missed": 3,
            "false_positives": 4,
            "false_negatives": 4,
        }
        matrix = [[2, 1, 3], [0, 1, 0], [2, 1, 0]]
        assert described["confusion"] == {"labels": ["a", "b", "background"], "matrix": matrix}


def test_each_image_has_its_verdicts(data):
    truth, results = data
    for images in (described["images"] for described in explain_results(truth, results, TASKS)["tasks"].values()):
        assert [image["file_name"] for image in images] == list(IMAGES)
        for image, name in zip(images, IMAGES, strict=True):
            verdicts = [verdict["verdict"] for verdict in image["verdicts"]]
            expected = {"right": ["correct"], "other class": ["correct"], "duplicate": ["correct", "duplicate"]}
            assert verdicts == expected.get(name, [name] if name in ("class", "both", "background") else [])
            assert image["objects"] == int(name != "background") and image["correct"] == verdicts.count("correct")
            assert sum(image["errors"].values()) == len(image["missed"]) + len(verdicts) - image["correct"]
            missed = [truth["annotations"][place]["image_id"] for place in image["missed"]]
            assert missed == [image["id"]] * (name in ("localisation", "both", "missed"))
            for verdict in image["verdicts"]:
                assert results[verdict["result"]]["image_id"] == image["id"]
                truth_id = None if verdict["truth"] is None else truth["annotations"][verdict["truth"]]["image_id"]
                assert truth_id == (None if name == "background" else image["id"])
                assert verdict["iou"] == pytest.approx({"both": 1 / 3, "background": 0}.get(name, 1))


def test_crowds_take_no_part(data):
    truth, results = data
    expected = explain_results(truth, results, TASKS)
    truth = copy.deepcopy(truth)
    truth["images"].append({"id": 99, "file_name": "crowd", "height": SIDE, "width": SIDE})
    crowd = {"id": 99, "image_id": 99, "category_id": A, "area": 1600, "iscrowd": 1} | shape(PLACE)
    truth["annotations"].append(crowd)
    results = results + [{"image_id": 99, "category_id": A, "score": 0.99} | shape([25, 25, 10, 10])] * 2
    found = explain_results(truth, results, TASKS)
    for task in TASKS:
        described, before = found["tasks"][task], expected["tasks"][task]
        assert [verdict["verdict"] for verdict in described["images"].pop()["verdicts"]] == ["ignored"] * 2
        for part in ("metrics", "errors", "confusion", "calibration", "overall", "images"):
            assert described[part] == before[part], part
    assert found["objects"] == expected["objects"] == 7


def test_what_was_mended_by_two_is_mended_once(data):
    truth, results = data
    more = [r for r in results if r["image_id"] == 2] + [r | {"score": 0.5} for r in results if r["image_id"] == 2]
    rest = [r for r in results if r["image_id"] != 2]
    gain = explain_results(truth, rest + more, ("bbox",))["tasks"]["bbox"]["errors"]["class"]["gain"]
    assert gain == pytest.approx(MENDED["class"] - (ap50("TFFTF", 6) + ap50("FFTF", 1)) / 2)


def test_the_numbers_are_ready_for_json_and_the_metrics_are_kept(data):
    explanation = explain_results(*data, TASKS, 300)
    assert json.loads(json.dumps(explanation, allow_nan=False)) == explanation and explanation["limits"] == [100, 300]
    scores = evaluate_results(*data, TASKS, 300)
    for task, found in list_scores(explanation).items():
        assert found.keys() == scores[task].keys()
        assert np.array_equal([*found.values()], [*scores[task].values()], equal_nan=True)
    without = explain_results(*data, TASKS, 300, verdicts=False)
    for task in TASKS:
        del explanation["tasks"][task]["images"]
    assert without == explanation


def test_nothing_found_and_nothing_to_find(data):
    truth, results = data
    explanation = explain_results(truth, [], TASKS)
    for described in explanation["tasks"].values():
        assert described["metrics"]["AP"] == 0 and described["overall"]["threshold"] is None
        assert described["errors"]["missed"] == {"count": 7, "gain": 100}
        assert described["calibration"]["error"] is None
    truth = truth | {"annotations": []}
    for described in explain_results(truth, results, TASKS)["tasks"].values():
        assert described["metrics"]["AP"] is None and described["errors"]["background"] == {"count": 8, "gain": None}
        assert described["curves"]["precision"] == {} and described["classes"][0]["recall"] is None
        assert described["confusion"]["matrix"][2] == [5, 3, 0]


def test_curves(data):
    curves = explain_results(*data, ("bbox",))["tasks"]["bbox"]["curves"]
    assert np.mean(curves["overall"]["precision"]) == pytest.approx(PRESENT, abs=1e-3)
    assert curves["precision"]["b"] == [33.333] * 101
    places = [curves["threshold"].index(score) for score in (0.6, 0.61, 0.95, 0.99)]
    assert [curves["F1"]["b"][place] for place in places] == [50, 0, 0, 0]
    assert [curves["F1"]["a"][place] for place in places] == pytest.approx([400 / 11, 400 / 11, 40, 0], abs=1e-3)


def test_calibration():
    """Scores of 0.95 of which half are right, and of 0.05 of which none is."""
    result = calibrate(np.array([0.95] * 4 + [0.05] * 4), np.array([True, False] * 2 + [False] * 4))
    first, last = result["bins"][0], result["bins"][-1]
    assert (first["from"], first["to"], first["count"], first["precision"]) == (0, 0.1, 4, 0)
    assert last["score"] == pytest.approx(0.95) and last["precision"] == 50 and result["bins"][4]["score"] is None
    assert result["error"] == pytest.approx((45 + 5) / 2)
    assert calibrate(np.array([1.0]), np.array([True]))["error"] == 0  # 1 belongs to the last bin
