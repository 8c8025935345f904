"""Outlines that cross themselves keep their pixels, in training as in evaluation."""

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as run_lengths

from convmae_det.data.detection.mapper import DetectionMapper
from convmae_det.data.detection.outlines import compute_area, split_outline

SIDE = 64
Z = [8, 8, 56, 8, 8, 56, 56, 56]
STAR = [32, 4, 48, 58, 6, 24, 58, 24, 16, 58]
RING = [4, 4, 60, 4, 60, 60, 4, 60, 4, 4, 20, 20, 44, 20, 44, 44, 20, 44, 20, 20]  # a hole, joined by a seam


def rasterize(polygons):
    """As COCO's evaluation does."""
    return run_lengths.decode(run_lengths.merge(run_lengths.frPyObjects(polygons, SIDE, SIDE))).astype(bool)


def find_pixels_off(outline, distance=2):
    """Pixels that are no matter of rounding."""
    line = shapely.LineString(np.reshape([*outline, *outline[:2]], (-1, 2)))
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    return shapely.distance(shapely.points(columns, rows), line) > distance


corners = st.lists(st.tuples(st.integers(0, SIDE), st.integers(0, SIDE)), min_size=3, max_size=9, unique=True)


@given(corners)
def test_the_parts_have_the_pixels_of_the_whole(points):
    outline = [float(x) for point in points for x in point]
    parts = split_outline(outline)
    off = find_pixels_off(outline)
    assert (rasterize(parts) == rasterize([outline]))[off].all()
    if parts != [outline]:
        assert all(shapely.Polygon(np.reshape(part, (-1, 2))).is_valid for part in parts)


@pytest.mark.parametrize("outline", [Z, STAR, RING])
def test_crossing_outlines_are_split(outline):
    parts = split_outline(outline)
    off = find_pixels_off(outline)
    assert len(parts) > 1 and rasterize(parts)[off].any()
    assert (rasterize(parts) == rasterize([outline]))[off].all()
    assert compute_area({"segmentation": [outline]}, SIDE, SIDE) == pytest.approx(rasterize([outline]).sum(), rel=0.1)


def test_simple_outlines_stay_as_they_are():
    square = [1, 1, 9.5, 1, 9.5, 8, 1, 8]
    assert split_outline(square)[0] is square
    assert split_outline([1, 1, 5, 5, 9, 9]) == [[1, 1, 5, 5, 9, 9]]  # encloses nothing


def test_areas():
    square, box = [1, 1, 9, 1, 9, 6, 1, 6], [1, 1, 8, 5]
    moved = [5, 1, 13, 1, 13, 6, 5, 6]
    assert compute_area({"bbox": box}, SIDE, SIDE) == 40
    assert compute_area({"bbox": box, "segmentation": [square]}, SIDE, SIDE) == 40
    assert compute_area({"bbox": box, "segmentation": [square, moved]}, SIDE, SIDE) == 60  # 20 of both
    assert compute_area({"bbox": box, "segmentation": [[1, 1, 2, 2]]}, SIDE, SIDE) == 40
    counts = {"size": [SIDE, SIDE], "counts": [10, 33, SIDE**2 - 43]}
    assert compute_area({"bbox": box, "segmentation": counts}, SIDE, SIDE) == 33
    compressed = run_lengths.frPyObjects(counts, SIDE, SIDE)
    assert compute_area({"bbox": box, "segmentation": compressed}, SIDE, SIDE) == 33


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("outline", [Z, STAR])
def test_jitter_keeps_the_whole_object(cfg, tmp_path, outline, mask_format):
    from PIL import Image

    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "a.png")
    cfg.INPUT.MASK_FORMAT, cfg.INPUT.RANDOM_FLIP = mask_format, "none"
    cfg.INPUT.LSJ.IMAGE_SIZE, cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE = SIDE, 1.0, 1.0
    annotation = {"bbox": [4, 4, 56, 56], "bbox_mode": 1, "category_id": 0, "segmentation": [outline], "iscrowd": 0}
    image = {"file_name": str(tmp_path / "a.png"), "height": SIDE, "width": SIDE, "annotations": [annotation]}
    (masks,) = [DetectionMapper(cfg, True)(image)["instances"].gt_masks]
    box = torch.tensor([[0.0, 0, SIDE, SIDE]])
    found = masks.crop_and_resize(box, SIDE)[0].numpy()
    off = find_pixels_off(outline)
    assert (found == rasterize([outline]))[off].all() and found[off].any()
