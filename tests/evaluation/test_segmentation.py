"""Metrics of a segmentor against a computation class by class; what has no class doesn't count."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from reference.small import segmentor_cfg

from convmae_det.errors import InputError
from convmae_det.evaluation.segmentation import (
    RESULTS,
    WORST,
    SegmentationEvaluator,
    choose_best_metric,
    choose_worst,
    compare_outlines,
    count_confusion,
    encode_mask,
    summarize,
)

CLASSES = ["ground", "blue", "green", "red"]
IGNORED = 255
shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
pairs = shapes.flatmap(
    lambda shape: st.tuples(
        arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, IGNORED])),
        arrays(np.uint8, shape, elements=st.integers(0, 3)),
    )
)


def peel(region):
    """The pixels of a region with a neighbour outside, one by one."""
    framed = np.pad(region, 1)
    result = np.zeros_like(region)
    for y, x in zip(*region.nonzero(), strict=True):
        result[y, x] = not framed[y : y + 3, x : x + 3].all()
    return result


@settings(max_examples=60)
@given(pair=pairs)
def test_intersections_and_unions(pair):
    truth, found = pair
    confusion = count_confusion(truth, found, 4, IGNORED)
    outlines = compare_outlines(truth, found, 4, IGNORED)
    counted = truth != IGNORED
    for label in range(4):
        ours, theirs = counted & (truth == label), counted & (found == label)
        assert confusion[label, label] == (ours & theirs).sum()
        assert confusion[label].sum() == ours.sum() and confusion[:, label].sum() == theirs.sum()
        near = [peel(region) for region in (ours, theirs)]  # one step, in so small an image
        assert outlines[:, label].tolist() == [(near[0] & near[1]).sum(), (near[0] | near[1]).sum()]


def test_the_worst_images_are_kept_with_what_was_found():
    images = [{"accuracy": float(value), "file_name": str(value)} for value in np.random.default_rng(0).permutation(30)]
    kept = []
    for image in images:
        kept = choose_worst([*kept, image])
    assert [image["accuracy"] for image in kept] == list(range(WORST))
    for labels in (np.array([[0, 3], [1, 2]]), np.array([[0, 300]])):
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(encode_mask(labels)))))
        assert np.array_equal(decoded, labels)


def test_outlines_are_as_wide_as_a_share_of_the_diagonal():
    truth = np.zeros((300, 400), np.uint8)
    truth[100:200, 100:300] = 1
    (both, union) = compare_outlines(truth, truth, 4, IGNORED)[:, 1]
    assert both == union == 100 * 200 - 80 * 180  # 2 % of 500 pixels


def test_means_are_of_the_classes_that_occur():
    confusion = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    summary = summarize(confusion, np.array([[1, 1, 0, 0], [2, 4, 0, 0]]), CLASSES)
    assert summary["mIoU"] == pytest.approx(100 * (6 / 9 + 3 / 6) / 2)
    assert summary["mACC"] == pytest.approx(100 * (6 / 8 + 3 / 4) / 2)
    assert summary["pACC"] == pytest.approx(100 * 9 / 12)
    assert summary["boundary_mIoU"] == pytest.approx(100 * (1 / 2 + 1 / 4) / 2)
    assert [entry["IoU"] is None for entry in summary["classes"]] == [False, False, True, True]


def test_a_class_that_is_found_where_it_is_not_has_an_iou_of_zero():
    summary = summarize(np.array([[5, 5], [0, 0]]), np.zeros((2, 2), np.int64) + [[1], [2]], CLASSES[:2])
    assert summary["mIoU"] == pytest.approx(25) and summary["mACC"] == pytest.approx(50)


def evaluate(tmp_path, masks, found, folder=""):
    evaluator = SegmentationEvaluator("own", CLASSES, IGNORED, str(folder))
    for number, (mask, labels) in enumerate(zip(masks, found, strict=True)):
        path = str(tmp_path / f"{number}.png")
        Image.fromarray(mask).save(path)
        logits = torch.nn.functional.one_hot(torch.tensor(labels).long(), 4).permute(2, 0, 1).float()
        evaluator.process([{"file_name": "image", "sem_seg_file_name": path}], [{"sem_seg": logits}])
    return evaluator.evaluate()


def test_images_count_by_their_pixels(tmp_path):
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 3, size).astype(np.uint8) for size in ((5, 6), (9, 4))]
    masks[0][0] = IGNORED
    found = [rng.integers(0, 3, mask.shape) for mask in masks]
    scores = evaluate(tmp_path, masks, found, tmp_path / "results")["sem_seg"]
    truth, labels = (np.concatenate([array.ravel() for array in arrays]) for arrays in (masks, found))
    truth, labels = truth[truth != IGNORED], labels[truth != IGNORED]
    ious = [((truth == k) & (labels == k)).sum() / ((truth == k) | (labels == k)).sum() for k in range(3)]
    assert scores["mIoU"] == pytest.approx(100 * np.mean(ious))
    assert scores["pACC"] == pytest.approx(100 * (truth == labels).mean())
    assert scores["IoU-blue"] == pytest.approx(100 * ious[1]) and "IoU-red" not in scores
    summary = json.loads((tmp_path / "results" / RESULTS).read_text())
    assert summary["images"] == 2 and np.sum(summary["confusion"]) == len(truth)


def test_what_can_not_be_evaluated(tmp_path):
    with pytest.raises(InputError, match="No pixel in the masks of own has a class"):
        evaluate(tmp_path, [np.full((3, 3), IGNORED, np.uint8)], [np.zeros((3, 3))])
    with pytest.raises(InputError, match=r"0.png is 3×3 pixels, but its image image is 5×4"):
        evaluate(tmp_path, [np.zeros((3, 3), np.uint8)], [np.zeros((4, 5))])


def test_the_metric_of_the_best_weights():
    data = ("DATASETS.TEST", ("one", "two"), "DATASETS.CATEGORIES", [[0, "ground"], [1, "blue"]])
    assert choose_best_metric(segmentor_cfg("DATASETS.TEST", ("one",))) == "sem_seg/mIoU"
    assert choose_best_metric(segmentor_cfg("DATASETS.TEST", ())) == ""
    assert choose_best_metric(segmentor_cfg(*data)) == "one/sem_seg/mIoU"
    for name in ("two/sem_seg/boundary_mIoU", "two/sem_seg/IoU-blue", "ema/one/sem_seg/mIoU"):
        assert choose_best_metric(segmentor_cfg(*data, "SOLVER.EMA.DECAY", 0.9, "TEST.BEST_METRIC", name)) == name
    with pytest.raises(InputError, match="^TEST.BEST_METRIC is 'sem_seg/AP'; it must be one of one/sem_seg/mIoU"):
        choose_best_metric(segmentor_cfg(*data, "TEST.BEST_METRIC", "sem_seg/AP"))
