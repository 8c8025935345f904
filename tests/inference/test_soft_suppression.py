"""Soft-NMS does what the paper's algorithm does, box by box, and Detectron2's box heads return it."""

import functools
import math

import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import detector_cfg, randomise

from convmae_det.errors import InputError
from convmae_det.inference.export.detector import export_detector
from convmae_det.inference.model import build_model
from convmae_det.inference.soft_suppression import lower_linearly, lower_smoothly, suppress_softly

FACTORS = {
    "linear": (functools.partial(lower_linearly, bound=0.3), lambda iou: 1 - iou if iou >= 0.3 else 1.0),
    "gaussian": (functools.partial(lower_smoothly, sigma=0.5), lambda iou: math.exp(-(iou**2) / 0.5)),
}


def suppress_plainly(boxes, scores, classes, factor, least):
    """The pseudocode of arXiv 1704.04503, on all boxes that are left."""
    overlaps, scores, found = pairwise_iou(Boxes(boxes), Boxes(boxes)).tolist(), scores.tolist(), []
    left = [row for row, score in enumerate(scores) if score > least]
    while left:
        best = max(left, key=lambda row: scores[row])
        left.remove(best)
        found.append((best, scores[best]))
        for row in left:
            if classes[row] == classes[best]:
                scores[row] *= factor(overlaps[best][row])
        left = [row for row in left if scores[row] > least]
    return found


@given(st.integers(0, 40), st.integers(0, 2**31), st.sampled_from(sorted(FACTORS)), st.sampled_from([0.0, 0.05, 0.4]))
@settings(deadline=None, max_examples=60)
def test_it_is_the_algorithm_of_the_paper(count, seed, method, least):
    generator = torch.Generator().manual_seed(seed)
    corners = 30 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat((corners, corners + 20 * torch.rand(count, 2, generator=generator)), dim=1)
    boxes[count // 2 :] = boxes[: count - count // 2].clone()  # exact duplicates
    scores, classes = torch.rand(count, generator=generator), torch.randint(3, (count,), generator=generator)
    ours, theirs = FACTORS[method]
    rows, lowered = suppress_softly(boxes.double(), scores.double(), classes, ours, least)
    expected = suppress_plainly(boxes.double(), scores.double(), classes.tolist(), theirs, least)
    assert rows.tolist() == [row for row, _ in expected]
    torch.testing.assert_close(lowered, torch.tensor([score for _, score in expected], dtype=torch.float64))


@pytest.fixture(scope="module")
def find():
    """Finds objects in one random image with a box head of a method; the weights are always the same."""
    image = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    def find(method, *options):
        few = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.01, "TEST.DETECTIONS_PER_IMAGE", 50)
        cfg = detector_cfg(
            *few, "MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.1, "MODEL.ROI_HEADS.SOFT_NMS.METHOD", method, *options
        )
        torch.manual_seed(0)
        model = randomise(build_model(cfg)).eval()
        with torch.no_grad():
            return model([{"image": image}])[0]["instances"]

    return find


@pytest.mark.parametrize("method", FACTORS)
def test_a_detector_returns_more_boxes_at_lower_scores(find, method):
    plain, soft = find(""), find(method)
    assert len(soft) > len(plain) and soft.has("pred_masks") and len(soft) <= 50
    assert (soft.scores.diff() <= 0).all() and (soft.scores > 0.01).all()
    for k in soft.pred_classes.unique():  # the best of a class keeps box and score
        (one, other) = (found[found.pred_classes == k][0] for found in (plain, soft))
        assert torch.equal(one.pred_boxes.tensor, other.pred_boxes.tensor) and torch.equal(one.scores, other.scores)


def test_without_overlap_above_the_bound_nothing_is_lowered(find):
    """With a bound of 1, linear soft suppression keeps what suppression from 1 on keeps."""
    keys = ("MODEL.ROI_HEADS.NMS_THRESH_TEST", 1.0)
    assert torch.equal(find("linear", *keys).scores, find("", *keys).scores)


def test_it_is_not_exported():
    cfg = detector_cfg("MODEL.ROI_HEADS.SOFT_NMS.METHOD", "linear")
    with pytest.raises(InputError, match=r"SOFT_NMS.METHOD is 'linear'; it must be empty for a file"):
        export_detector(cfg, "weights.pth", "image.png", "torchscript")
