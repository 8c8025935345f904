"""Precision and recall are pycocotools' to the last digit: on random data with crowds and ties, and on real COCO."""

import contextlib
import copy
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convmae_det.evaluation.comparison import compare
from convmae_det.evaluation.overlaps import Overlaps
from convmae_det.evaluation.tables import rank_in_groups

SIDE = 24
DATA = Path(os.environ.get("DETECTRON2_DATASETS", Path(__file__).parents[3] / "shared" / "data"))
IMAGES = 80  # of COCO


def encode(box, height=SIDE, width=SIDE):
    x, y, w, h = box
    (mask,) = run_lengths.frPyObjects([[x, y, x + w, y, x + w, y + h, x, y + h]], height, width)
    return mask


def assert_equal_to_pycocotools(truth, results, task, limit=100):
    index = COCO()
    index.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
        found = [{key: value for key, value in r.items() if task == "bbox" or key != "bbox"} for r in results]
        reference = COCOeval(index, index.loadRes(found), task)
        reference.params.maxDets = [1, 10, *sorted({100, limit})]
        reference.evaluate(), reference.accumulate()
    _, comparisons = compare(truth, results, (task,), limit)
    assert np.array_equal(comparisons[task].precision, reference.eval["precision"][..., 2:])
    assert np.array_equal(comparisons[task].recall, reference.eval["recall"][..., 2:])
    return comparisons[task]


numbers = st.integers(0, 10)
boxes = st.tuples(numbers, numbers, st.integers(1, 12), st.integers(1, 12)).map(list)
shared = {"image_id": st.integers(1, 3), "category_id": st.integers(1, 2), "bbox": boxes}
annotations = st.fixed_dictionaries(
    shared | {"iscrowd": st.sampled_from([0, 0, 0, 1]), "area": st.sampled_from([20, 1024, 1500, 9216, 9300])}
)
found = st.fixed_dictionaries(shared | {"score": st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])})


@settings(max_examples=60, deadline=None)
@given(st.lists(annotations, max_size=14), st.lists(found, min_size=1, max_size=30), st.sampled_from(["bbox", "segm"]))
def test_random_data(annotated, results, task):
    truth = {
        "info": {},
        "images": [{"id": number, "height": SIDE, "width": SIDE} for number in (1, 2, 3)],
        "categories": [{"id": number, "name": str(number)} for number in (1, 2)],
        "annotations": [a | {"id": i, "segmentation": encode(a["bbox"])} for i, a in enumerate(annotated, start=1)],
    }
    assert_equal_to_pycocotools(truth, [r | {"segmentation": encode(r["bbox"])} for r in results], task)


@pytest.fixture(scope="module")
def coco():
    path = DATA / "coco" / "annotations" / "instances_val2017.json"
    if not path.exists():
        pytest.skip(f"needs {path}")
    content = json.loads(path.read_text())
    content["images"] = content["images"][:IMAGES]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    return content


def jitter(truth, rng, copies):
    """Results near the annotated objects, a part of them of another class."""
    results = []
    for annotation in truth["annotations"]:
        for _ in range(copies):
            move = rng.normal(0, 0.15, 4) * np.tile(annotation["bbox"][2:], 2)
            x, y, w, h = np.add(annotation["bbox"], move)
            category = annotation["category_id"] if rng.random() < 0.8 else 1
            box = {"bbox": [x, y, max(w, 1.0), max(h, 1.0)], "score": round(float(rng.random()), 2)}
            results.append({"image_id": annotation["image_id"], "category_id": category} | box)
    return results


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_real_coco(coco, task):
    results = jitter(coco, np.random.default_rng(0), 2)
    if task == "segm":
        sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
        results = [r | {"segmentation": encode(r["bbox"], *sizes[r["image_id"]])} for r in results]
    comparison = assert_equal_to_pycocotools(coco, results, task)
    assert comparison.objects.crowd.any() and comparison.right.any() and comparison.wrong.any()


def test_real_coco_with_300_results_in_an_image(coco):
    """All of one class, so that the limit is reached; in some of the images, for pycocotools takes long."""
    images = sorted({annotation["image_id"] for annotation in coco["annotations"]})[:12]
    rng = np.random.default_rng(0)
    near = {image: [a for a in coco["annotations"] if a["image_id"] == image] for image in images}
    results = [
        {"image_id": image, "category_id": 1, "score": round(float(rng.random()), 3)}
        | {"bbox": np.abs(near[image][i % len(near[image])]["bbox"] + rng.normal(0, 4, 4)).tolist()}
        for image in images
        for i in range(300)
    ]
    comparison = assert_equal_to_pycocotools(coco, results, "bbox", 300)
    assert (comparison.precision[..., 1] > comparison.precision[..., 0]).any()


def test_ranks():
    assert rank_in_groups(np.array([3, 1, 3, 3, 1])).tolist() == [0, 0, 1, 2, 1]
    assert rank_in_groups(np.zeros(0, int)).tolist() == []


def test_overlaps_are_selected():
    pairs = Overlaps(np.array([0, 0, 1]), np.array([2, 3, 2]), np.array([0.2, 0.6, 0.9])).select(np.array([2, 0]))
    assert (pairs.detection.tolist(), pairs.object.tolist(), pairs.iou.tolist()) == ([1, 0], [2, 2], [0.9, 0.2])
