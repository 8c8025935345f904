"""COCO's metrics depend on what is annotated and found, not on how it is numbered or which evaluation is installed."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convmae_det.data.detection.variants import unify_content
from convmae_det.errors import InputError
from convmae_det.evaluation.coco import Evaluator, fill_areas, read_ground_truth, read_ground_truth_file
from convmae_det.evaluation.explanation import explain_results, list_scores
from convmae_det.evaluation.metrics import MEASURES, evaluate_results, format_table
from convmae_det.evaluation.results_file import list_tasks_of_results, read_results
from convmae_det.evaluation.thresholds import read_thresholds

SIDE = 300


def outline(x, y, width, height):
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def make_data(count=3, objects=12, seed=0):
    """Annotations, and results some of which are right, with masks."""
    rng = np.random.default_rng(seed)
    images = [{"id": i + 1, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in range(count)]
    categories = [{"id": 4, "name": "a"}, {"id": 9, "name": "b"}]
    annotations, results = [], []
    for image in images:
        for _ in range(objects):
            box = [*rng.integers(0, 180, 2).tolist(), *rng.integers(10, 120, 2).tolist()]
            ids = {"image_id": image["id"], "category_id": int(rng.choice([4, 9]))}
            shape = {"bbox": box, "segmentation": outline(*box)}
            crowd = int(rng.random() < 0.1)
            annotations.append(ids | shape | {"id": len(annotations) + 1, "area": box[2] * box[3], "iscrowd": crowd})
            moved = [max(0, value + int(rng.integers(-6, 7))) for value in box]
            results.append(ids | {"bbox": moved, "score": float(rng.random())})
    truth = {"images": images, "categories": categories, "annotations": annotations}
    masks = COCO()
    masks.dataset = truth | {
        "annotations": [r | {"id": i, "segmentation": outline(*r["bbox"])} for i, r in enumerate(results)]
    }
    with contextlib.redirect_stdout(io.StringIO()):
        masks.createIndex()
    for i, result in enumerate(results):
        mask = masks.annToRLE(masks.anns[i])
        result["segmentation"] = {"size": mask["size"], "counts": mask["counts"].decode()}
    return truth, results


def equal(ours, theirs):
    """To the last digit; no number equals no number."""
    return ours.keys() == theirs.keys() and all(
        scores.keys() == theirs[task].keys()
        and np.array_equal([*scores.values()], [theirs[task][name] for name in scores], equal_nan=True)
        for task, scores in ours.items()
    )


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_the_measures_are_pycocotools(task):
    truth, results = make_data()
    index = COCO()
    index.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
        found = [{k: v for k, v in r.items() if task == "bbox" or k != "bbox"} for r in results]
        reference = COCOeval(index, index.loadRes(found), task)
        reference.evaluate(), reference.accumulate(), reference.summarize()
    scores = evaluate_results(truth, results, (task,))[task]
    expected = 100 * reference.stats[[0, 1, 2, 3, 4, 5, 8]]
    assert [scores[name] for name in MEASURES] == pytest.approx(expected, abs=1e-9)
    assert 5 < scores["AP"] < 95 and scores["AP"] == pytest.approx((scores["AP-a"] + scores["AP-b"]) / 2)


IDS = {
    "from 0": lambda i: i,
    "negative": lambda i: -i,
    "huge": lambda i: 2**63 + i,
    "text": lambda i: f"ann-{i}",
    "floats": float,
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_annotations_are_no_matter(kind):
    truth, results = make_data()
    expected = evaluate_results(truth, results, ("bbox", "segm"))
    for i, annotation in enumerate(truth["annotations"]):
        annotation["id"] = IDS[kind](i)
    unify_content(truth)
    assert equal(evaluate_results(truth, results, ("bbox", "segm")), expected)


@pytest.mark.parametrize("kind", ["from 0", "negative", "huge", "text"])
def test_ids_of_images_and_categories_are_no_matter(kind):
    truth, results = make_data()
    expected = evaluate_results(truth, results, ("bbox", "segm"))
    for entry in (*truth["annotations"], *results):
        entry["image_id"] = IDS[kind](entry["image_id"])
        entry["category_id"] -= 4
    for image in truth["images"]:
        image["id"] = IDS[kind](image["id"])
    for category in truth["categories"]:
        category["id"] -= 4
    before = copy.deepcopy(results)
    assert equal(evaluate_results(truth, results, ("bbox", "segm")), expected) and results == before


def test_missing_fields_are_filled_in():
    truth, results = make_data()
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 0
    expected = evaluate_results(truth, results, ("bbox", "segm"))
    for annotation, area in zip(truth["annotations"], [None, 0, -1, math.nan, "", "gone"] * 9, strict=False):
        del annotation["iscrowd"]
        annotation["area"] = area
        if area == "gone":
            del annotation["area"]
    unify_content(truth)
    assert fill_areas(truth) == len(truth["annotations"]) and fill_areas(truth) == 0
    assert equal(evaluate_results(truth, results, ("bbox", "segm")), expected)


def make_dense(count):
    truth, _ = make_data(1, 0)
    places = [(3 + 12 * (i % 20), 3 + 12 * (i // 20)) for i in range(count)]
    boxes = [[x, y, 8, 8] for x, y in places]
    ids = {"image_id": 1, "category_id": 4}
    truth["annotations"] = [
        ids | {"id": i, "bbox": box, "area": 64, "iscrowd": 0, "segmentation": outline(*box)}
        for i, box in enumerate(boxes)
    ]
    return truth, [ids | {"bbox": box, "score": 1 - i / count} for i, box in enumerate(boxes)]


def test_more_objects_than_a_hundred_are_counted_where_asked():
    truth, results = make_dense(196)
    scores = evaluate_results(truth, results, ("bbox",), 300)["bbox"]
    assert scores["AP@300"] == scores["AR@300"] == scores["APs@300"] == 100
    assert scores["AP"] == pytest.approx(51.485, abs=1e-3) and scores["AR"] == pytest.approx(100 * 100 / 196)
    assert equal(
        {"": evaluate_results(truth, results, ("bbox",))["bbox"]},
        {"": {k: v for k, v in scores.items() if "@" not in k}},
    )
    assert evaluate_results(truth, results, ("bbox",), 150)["bbox"]["AR@150"] == pytest.approx(100 * 150 / 196)
    table = format_table(scores)
    assert "| 100 (as COCO does)" in table and "| 300                  | 100.000" in table


def test_nothing_found_is_0_and_nothing_to_find_is_no_number():
    truth, _ = make_data()
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] == 4 and a["area"] > 32**2]
    scores = evaluate_results(truth, [], ("bbox", "segm"))
    for task in ("bbox", "segm"):
        assert scores[task]["AP"] == scores[task]["AR"] == scores[task]["AP-a"] == 0
        assert math.isnan(scores[task]["APs"]) and math.isnan(scores[task]["AP-b"])


@pytest.mark.parametrize("change", [{"image_id": 77}, {"category_id": 77}])
def test_results_of_other_data_are_named(change):
    truth, results = make_data()
    results[3] |= change
    with pytest.raises(InputError, match="a result is of image .*77.* the annotations don't have"):
        evaluate_results(truth, results, ("bbox",))


def test_names_in_the_table():
    scores = dict.fromkeys(MEASURES, 50.0) | {"AP-1": 1.5, "AP-02": 2.5, "AP-a/b": 3.5, "AP-円盤": 4.5}
    table = format_table(scores)
    cells = [cell.strip() for line in table.splitlines() for cell in line.split("|")]
    for name in ("1", "02", "a/b", "円盤"):
        assert cells[cells.index(name) + 1] == f"{scores[f'AP-{name}']:.3f}"


def test_the_evaluator_leaves_what_evaluating_its_results_gives(catalog, tmp_path):
    truth, results = make_data()
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    register_coco_instances("evaluated", {}, str(path), str(tmp_path))
    evaluator = Evaluator("evaluated", ("bbox", "segm"), str(tmp_path / "out"))
    evaluator.results = [result | {"category_id": [4, 9].index(result["category_id"])} for result in results]
    scores = evaluator.evaluate()
    assert equal(scores, evaluate_results(truth, results, ("bbox", "segm")))
    read = read_ground_truth_file(str(path))
    found = read_results(tmp_path / "out" / "coco_instances_results.json", read)
    explanation = explain_results(read, found, list_tasks_of_results(found), verdicts=False)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == explanation
    assert equal(list_scores(explanation), scores)
    (a, b), path = explanation["tasks"]["segm"]["classes"], tmp_path / "out" / "thresholds.json"
    assert read_thresholds(path, ["a", "b"]) == [a["threshold"], b["threshold"]]


def test_ground_truth_is_that_of_a_file_or_of_a_function(catalog, tmp_path):
    truth, results = make_data()
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    register_coco_instances("of a file", {}, str(tmp_path / "truth.json"), str(tmp_path))
    expected = evaluate_results(read_ground_truth("of a file"), results, ("bbox", "segm"))
    dicts = DatasetCatalog.get("of a file")
    DatasetCatalog.register("of a function", lambda: dicts)
    names = MetadataCatalog.get("of a file")
    MetadataCatalog.get("of a function").set(
        thing_classes=names.thing_classes, thing_dataset_id_to_contiguous_id=names.thing_dataset_id_to_contiguous_id
    )
    assert equal(evaluate_results(read_ground_truth("of a function"), results, ("bbox", "segm")), expected)
