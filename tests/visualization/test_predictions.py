import itertools

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks

from convmae_det.visualization.colours import class_colour
from convmae_det.visualization.predictions import build_ground_truth, draw_instances, draw_overview

METADATA = Metadata(name="test", thing_classes=["dog", "cat"])
SQUARE = [[40.0, 40.0, 80.0, 40.0, 80.0, 80.0, 40.0, 80.0]]


def predictions(boxes, scores, classes, masks=None, size=(120, 160)) -> Instances:
    instances = Instances(size, pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float).reshape(-1, 4)))
    instances.scores, instances.pred_classes = torch.tensor(scores), torch.tensor(classes, dtype=torch.long)
    if masks is not None:
        instances.pred_masks = masks
    return instances


def grey(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def changed(drawn: np.ndarray) -> np.ndarray:
    """(h, w) bool: where anything has been drawn on the grey image."""
    return (drawn != 128).any(-1)


def test_nothing_to_draw_gives_the_image_enlarged():
    drawn = draw_instances(grey(), predictions([], [], []), METADATA)
    assert drawn.shape == (360, 480, 3) and not changed(drawn).any()
    assert draw_instances(grey(500, 400), predictions([], [], [], size=(500, 400)), METADATA).shape == (500, 400, 3)


def test_a_hole_in_a_mask_stays_open():
    mask = torch.zeros(1, 120, 160, dtype=torch.bool)
    mask[0, 30:90, 30:90] = True
    mask[0, 50:70, 50:70] = False
    drawn = changed(draw_instances(grey(), predictions([[30, 30, 90, 90]], [0.9], [0], mask), METADATA))
    assert drawn[3 * 35 : 3 * 45, 3 * 35 : 3 * 85].all()
    assert not drawn[3 * 52 : 3 * 68, 3 * 52 : 3 * 68].any()


@pytest.mark.parametrize("kind", [PolygonMasks, BitMasks])
def test_masks_of_either_kind_of_ground_truth(kind):
    instances = Instances((120, 160), gt_boxes=Boxes(torch.tensor([[40.0, 40, 80, 80]])), gt_classes=torch.tensor([1]))
    polygons = PolygonMasks([[np.array(SQUARE[0])]])
    instances.gt_masks = polygons if kind is PolygonMasks else BitMasks.from_polygon_masks(polygons, 120, 160)
    assert changed(draw_instances(grey(), instances, METADATA))[3 * 45 : 3 * 75, 3 * 45 : 3 * 75].all()


def test_a_class_has_its_colour_and_its_name():
    drawings = [draw_instances(grey(), predictions([[9, 30, 90, 90]], [0.5], [k]), METADATA) for k in (0, 1, 1)]
    assert not np.array_equal(drawings[0], drawings[1]) and np.array_equal(drawings[1], drawings[2])
    unnamed = draw_instances(grey(), predictions([[9, 30, 90, 90]], [0.5], [7]), METADATA)
    assert changed(unnamed).any()


def test_names_may_have_any_letters():
    """Of a language that the font has, each word looks different."""
    drawings = []
    for name in ("кот", "пёс", "čmeláček"):
        metadata = Metadata(name="other", thing_classes=[name])
        drawings.append(draw_instances(grey(), predictions([[9, 30, 90, 90]], [0.5], [0]), metadata))
    assert not any(np.array_equal(*pair) for pair in itertools.combinations(drawings, 2))


def test_objects_keep_their_colours():
    """Inside of its outline an object is nearly as it was, and its outline has the colour of the class."""
    mask = torch.zeros(1, 400, 400, dtype=torch.bool)
    mask[0, 100:300, 100:300] = True
    instances = predictions([[100, 100, 300, 300]], [0.5], [3], mask, (400, 400))
    drawn = draw_instances(grey(400, 400), instances, METADATA)
    assert 0 < np.abs(drawn[120:280, 120:280].astype(int) - 128).max() < 30
    assert (drawn[200, 98:103] == class_colour(3)).all(-1).any()


def test_masks_of_a_pixel_and_of_none():
    masks = torch.zeros(2, 120, 160, dtype=torch.bool)
    masks[0, 50, 50] = True
    drawn = draw_instances(grey(), predictions([[50, 50, 51, 51], [9, 9, 20, 20]], [0.5, 0.5], [0, 1], masks), METADATA)
    assert changed(drawn)[150:153, 150:153].any()


def annotation(category: int, **others) -> dict:
    return {"bbox": [40, 40, 40, 40], "bbox_mode": BoxMode.XYWH_ABS, "category_id": category, **others}


def test_annotations_with_and_without_masks():
    run_lengths = mask_util.encode(np.eye(120, 160, dtype=np.uint8, order="F"))
    polygon = annotation(0, segmentation=SQUARE)
    truth = build_ground_truth([polygon], (120, 160))
    assert truth.gt_boxes.tensor.tolist() == [[40, 40, 80, 80]] and truth.gt_masks.sum() == 1600
    assert len(build_ground_truth([polygon, annotation(1, segmentation=run_lengths)], (120, 160)).gt_masks) == 2
    assert not build_ground_truth([polygon, annotation(1)], (120, 160)).has("gt_masks")
    assert len(build_ground_truth([], (120, 160))) == 0


def test_an_overview_holds_every_panel_whole():
    levels = iter(range(10, 250, 10))
    shapes = [(384, 512), (512, 300), (100, 500), (512, 512), (384, 384)]
    for titles in (["a"], ["a", "b"]):
        pictures = [[np.full((*shape, 3), next(levels), np.uint8) for _ in titles] for shape in shapes]
        sheet = np.asarray(draw_overview(pictures, ["name"] * 5, titles))
        for panel in (panel for picture in pictures for panel in picture):
            assert (sheet == panel[0, 0]).all(-1).sum() >= panel[..., 0].size
        assert sheet.shape[1] <= 4 * 540


def test_large_images_are_shrunk_and_one_alone_fills_the_overview():
    sheet = draw_overview([[np.zeros((2000, 4000, 3), np.uint8)]], ["name"], ["title"])
    assert 512 <= sheet.width < 540 and 256 <= sheet.height < 330
