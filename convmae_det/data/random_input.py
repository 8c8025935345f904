"""Random images, with random objects, in the form in which mappers give them: for what is measured without data."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

from ..config.architectures import is_classifier, is_detector, is_segmentor
from ..config.building import list_sides

LEAST_SIDE = 8  # pixels, of an object


def make_random_input(cfg: CfgNode, size: int | Sequence[int], objects: int = 0) -> dict:
    """Makes an image as a mapper returns it, uint8; with the class, or mask, of its network.

    Args:
        cfg: of the network; masks have the form of INPUT.MASK_FORMAT
        size: pixels along the side of a square, or height and width
        objects: their number, for a detector to train on; 0: none are given, as in evaluation
    """
    height, width = list_sides(size)
    shape = len(cfg.MODEL.PIXEL_MEAN), height, width
    entry: dict[str, Any] = {"image": torch.randint(0, 256, shape, dtype=torch.uint8)}
    if is_classifier(cfg):
        return entry | {"label": 0}
    if is_segmentor(cfg):
        return entry | {"sem_seg": torch.zeros(height, width, dtype=torch.int64)}
    if not objects or not is_detector(cfg):
        return entry
    corners = torch.rand(objects, 2, 2).sort(dim=1).values * (min(height, width) - LEAST_SIDE)
    corners[:, 1] += LEAST_SIDE
    instances = Instances((height, width), gt_boxes=Boxes(corners.flatten(1)))
    instances.gt_classes = torch.zeros(objects, dtype=torch.int64)
    if cfg.INPUT.MASK_FORMAT == "polygon":
        outlines = corners.flatten(1)[:, [0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()  # x0 y0, x1 y0, x1 y1, x0 y1
        instances.gt_masks = PolygonMasks([[outline] for outline in outlines])
    else:
        instances.gt_masks = BitMasks(torch.ones(objects, height, width, dtype=torch.bool))
    if cfg.MODEL.KEYPOINT_ON:
        points = torch.rand(objects, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS, 3) * (min(height, width) - 1)
        points[:, :, 2] = 2  # visible
        instances.gt_keypoints = Keypoints(points)
    return entry | {"instances": instances, "sem_seg": torch.zeros(height, width, dtype=torch.int64)}
