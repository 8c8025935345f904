"""Panoptic quality against a computation segment by segment, and by hand where void and crowds decide."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convmae_det.evaluation.panoptic import count_segments, format_qualities, summarize

CLASSES = 3


@st.composite
def images(draw):
    """The segments of an image in truth and prediction, of 0 to 4 ids that are not in order, on up to 6×6 pixels."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    maps = []
    for ids in ([7, 3, 900, 5], [2, 70000, 1, 4]):
        listed = ids[: draw(st.integers(0, 4))]
        segments = [(number, draw(st.integers(0, CLASSES - 1)), draw(st.booleans())) for number in listed]
        maps.append((draw(arrays(np.int32, shape, elements=st.sampled_from([0, *listed]))), segments))
    (truth, listed), (found, segments) = maps
    present = [segment for segment in listed if (truth == segment[0]).any()]
    return (truth, present), (found, [(number, label, False) for number, label, _ in segments])


def count_plainly(truth, found):
    """The definition of the paper (section 4.1), pair by pair."""
    (true_ids, true_segments), (found_ids, found_segments) = truth, found
    counts, ious = np.zeros((CLASSES, 3), int), np.zeros(CLASSES)
    matched = set()
    for number, label, crowd in true_segments:
        mask, hit = true_ids == number, False
        for other, found_label, _ in found_segments:
            theirs = found_ids == other
            union = (mask | (theirs & (true_ids != 0))).sum()
            iou = (mask & theirs).sum() / union
            if label == found_label and not crowd and iou > 0.5:
                counts[label, 0] += 1
                ious[label] += iou
                hit = True
                matched.add(other)
        counts[label, 2] += not hit and not crowd
    for other, label, _ in found_segments:
        theirs = found_ids == other
        excused = true_ids == 0
        for number, true_label, crowd in true_segments:
            excused |= (true_ids == number) & (crowd and true_label == label)
        if other not in matched and theirs.any():
            counts[label, 1] += (theirs & excused).sum() * 2 <= theirs.sum()
    return counts, ious


@settings(max_examples=150)
@given(pair=images())
def test_it_is_the_definition(pair):
    counts, ious = count_segments(*pair, CLASSES)
    expected = count_plainly(*pair)
    assert counts.tolist() == expected[0].tolist()
    assert ious == pytest.approx(expected[1])


def row(*lengths):
    """One row of pixels: (id, how many) in turn."""
    return np.concatenate([np.full(count, number) for number, count in lengths])[None]


def count(truth, true_segments, found, found_segments):
    counts, ious = count_segments((truth, true_segments), (found, found_segments), 2)
    return counts.tolist(), ious.tolist()


def test_half_an_overlap_is_none():
    truth = row((1, 10)), [(1, 0, False)]
    assert count(*truth, row((5, 5), (0, 5)), [(5, 0, False)]) == ([[0, 1, 1], [0, 0, 0]], [0, 0])
    assert count(*truth, row((5, 6), (0, 4)), [(5, 0, False)]) == ([[1, 0, 0], [0, 0, 0]], [0.6, 0])
    assert count(*truth, row((5, 6), (0, 4)), [(5, 1, False)]) == ([[0, 0, 1], [0, 1, 0]], [0, 0])  # of another class


def test_void_neither_spoils_a_match_nor_makes_a_mistake():
    truth = row((1, 4), (0, 6)), [(1, 0, False)]
    assert count(*truth, row((5, 10)), [(5, 0, False)]) == ([[1, 0, 0], [0, 0, 0]], [1, 0])
    assert count(*truth, row((0, 3), (5, 7)), [(5, 1, False)]) == ([[0, 0, 1], [0, 0, 0]], [0, 0])  # 6 of 7 are void
    assert count(*truth, row((5, 4), (6, 6)), [(5, 0, False), (6, 0, False)])[0] == [[1, 0, 0], [0, 0, 0]]


def test_a_crowd_need_not_be_found_and_excuses_its_class():
    truth = row((1, 4), (2, 6)), [(1, 0, False), (2, 0, True)]
    parts = row((5, 4), (6, 3), (7, 3))
    of_the_class = [(5, 0, False), (6, 0, False), (7, 0, False)]
    assert count(*truth, parts, of_the_class)[0] == [[1, 0, 0], [0, 0, 0]]
    assert count(*truth, parts, [(5, 0, False), (6, 1, False), (7, 0, False)])[0] == [[1, 0, 0], [0, 1, 0]]


def test_nothing_there_and_nothing_found():
    nothing = row((0, 5)), []
    assert count(*nothing, *nothing) == ([[0, 0, 0], [0, 0, 0]], [0, 0])
    assert count(*nothing, row((0, 5)), [(3, 1, False)]) == ([[0, 0, 0], [0, 0, 0]], [0, 0])  # listed, without a pixel


def test_means_are_of_the_classes_that_occur():
    counts = np.array([[3, 1, 1], [0, 0, 0], [0, 2, 0]])
    summary = summarize(counts, np.array([2.4, 0, 0]), ["car", "bus"], ["sky"])
    assert summary["things"] == pytest.approx({"PQ": 60, "SQ": 80, "RQ": 75})
    assert summary["stuff"] == {"PQ": 0, "SQ": 0, "RQ": 0}
    assert summary["all"] == pytest.approx({"PQ": 30, "SQ": 40, "RQ": 37.5})
    car, bus, sky = summary["classes"]
    assert (car["found"], car["wrong"], car["missed"]) == (3, 1, 1) and bus["PQ"] is None and not sky["isthing"]
    assert "bus" not in format_qualities(summary) and "mean of stuff" in format_qualities(summary)


def test_no_class_occurs():
    summary = summarize(np.zeros((2, 3), int), np.zeros(2), ["car"], ["sky"])
    assert summary["all"] == {"PQ": None, "SQ": None, "RQ": None}
    assert "mean" not in format_qualities(summary) and not math.isnan(len(format_qualities(summary)))
