"""Marks lie where objects are, in a form that is short."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as run_lengths

from convmae_det.report.marks import draw_outline


def fill(paths, size):
    pixels = np.zeros(size, np.uint8)
    for path in paths:
        corners = np.array([list(map(float, pair.split())) for pair in path[1:-1].split("L")])
        cv2.fillPoly(pixels, [np.round(corners - 0.5).astype(np.int32)], 1)
    return pixels.astype(bool)


@pytest.mark.parametrize("height, width", [(60, 80), (900, 1600)])
@pytest.mark.parametrize("compressed", [True, False])
def test_an_outline_is_that_of_its_mask(height, width, compressed):
    y, x = np.mgrid[:height, :width]
    pixels = (((x - width / 2) / (width / 3)) ** 2 + ((y - height / 2) / (height / 4)) ** 2 < 1).astype(np.uint8)
    encoded = run_lengths.encode(np.asfortranarray(pixels))
    mask = {"size": [height, width], "counts": encoded["counts"].decode()}
    if not compressed:
        flat = np.concatenate([[0], pixels.ravel(order="F"), [0]])
        ends = np.flatnonzero(np.diff(flat.astype(int)))
        mask["counts"] = np.diff([0, *ends, pixels.size]).tolist()
    paths = list(draw_outline(mask, (height, width)))
    drawn = fill(paths, (height, width))
    assert (drawn & (pixels > 0)).sum() / (drawn | (pixels > 0)).sum() > 0.93
    assert len("".join(paths)) < 1000


def test_polygons_keep_their_corners():
    (path,) = draw_outline([[10, 10, 50, 10, 50, 40, 10, 40]], (60, 80))
    assert sorted(path[1:-1].split("L")) == ["10.0 10.0", "10.0 40.0", "50.0 10.0", "50.0 40.0"]


@pytest.mark.parametrize("mask", [None, [], [[1, 1, 1, 1, 1, 1]], {"size": [9, 9], "counts": [81]}])
def test_what_has_no_outline_is_not_drawn(mask):
    assert list(draw_outline(mask, (9, 9))) == []
