"""Objects of an image that is drawn at another size."""

from collections.abc import Mapping

import numpy as np
from detectron2.structures import Boxes, Instances

from ..data.run_length_masks import RunLengthMasks
from ..data.runs import Runs


def resize_instances(instances: Instances, size: tuple[int, int]) -> Instances:
    """Resizes predictions with their image, to (height, width): pred_boxes and, if there are any, pred_masks."""
    scale = _compute_scale(instances.image_size, size)
    fields = dict(instances.get_fields())
    boxes = fields["pred_boxes"].tensor
    fields["pred_boxes"] = Boxes(boxes * boxes.new_tensor(np.tile(scale, 2)))
    if "pred_masks" in fields:
        fields["pred_masks"] = RunLengthMasks.from_masks(fields["pred_masks"], instances.image_size).resize(size)
    return Instances(size, **fields)


def resize_traces(
    traces: Mapping[int, np.ndarray], old_size: tuple[int, int], size: tuple[int, int]
) -> dict[int, np.ndarray]:
    """Resizes the traces of a `Tracker`, (k, 2) in pixels each."""
    scale = _compute_scale(old_size, size)
    return {number: trace * scale for number, trace in traces.items()}


def resize_annotation(annotation: dict, old_size: tuple[int, int], size: tuple[int, int]) -> dict:
    """Resizes an annotated object, in Detectron2's format, with its image: its box and mask."""
    scale = _compute_scale(old_size, size)
    resized = annotation | {"bbox": (np.asarray(annotation["bbox"], float) * np.tile(scale, 2)).tolist()}
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        resized["segmentation"] = Runs.from_coco(mask).resize(old_size, size).to_coco(*size)
    elif mask:
        resized["segmentation"] = [(np.reshape(part, (-1, 2)) * scale).ravel().tolist() for part in mask]
    return resized


def _compute_scale(old_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Computes the scales of x and y from (height, width)."""
    return np.divide(size, old_size)[::-1]
