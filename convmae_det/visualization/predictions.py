"""A detector's predictions beside the ground truth."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BitMasks, Instances, PolygonMasks
from detectron2.utils.visualizer import Visualizer
from matplotlib import colormaps
from PIL import Image

from ..data.image import read_image
from .sheet import draw_sheet

MIN_SIDE = 384  # pixels of the longer side; smaller images are enlarged, so that what is written on them is legible
FONT_SIZE = 13  # pixels, as long as no side is longer than 60 times that
COLOURS = colormaps["tab10"].colors


def draw_predictions(
    images: Sequence[dict], predictions: Sequence[Instances], metadata: Metadata, score_threshold: float = 0.5
) -> Image.Image:
    """A row for each image: its annotations, and beside them the predictions of at least that score.

    Args:
        images: in Detectron2's format for data sets, with file_name and annotations
        predictions: for each image at its full size, as Detectron2's models return them
        metadata: of the data set, for the names of its classes

    Raises:
        InputError: an image can't be read.
    """
    rows = []
    for image, predicted in zip(images, predictions, strict=True):
        pixels = read_image(image["file_name"])
        predicted = predicted[predicted.scores >= score_threshold]
        truth = ground_truth(image.get("annotations", []), pixels.shape[:2])
        rows.append([draw_instances(pixels, instances, metadata) for instances in (truth, predicted)])
    return draw_sheet(rows, ("ground truth", f"predictions (score ≥ {score_threshold:.0%})"))


def ground_truth(annotations: Sequence[dict], size: tuple[int, int]) -> Instances:
    """gt_boxes, gt_classes and, if all annotations have masks, gt_masks, for an image of `size` (height, width)."""
    if not all("segmentation" in annotation for annotation in annotations):
        keys = ("bbox", "bbox_mode", "category_id")
        annotations = [{key: annotation[key] for key in keys} for annotation in annotations]
    return annotations_to_instances(annotations, size, "bitmask")


def draw_instances(pixels: np.ndarray, instances: Instances, metadata: Metadata) -> np.ndarray:
    """Boxes, classes and, as far as there are any, masks and scores drawn on an image, in a colour for each class.

    Args:
        pixels: (H, W, 3) uint8 RGB
        instances: predictions (pred_boxes, …) or ground truth (gt_boxes, …) at the image's size

    Returns:
        (h, w, 3) uint8 RGB; H and W, or larger by the same factor
    """
    height, width = pixels.shape[:2]
    scale = -(-MIN_SIDE // max(height, width))
    font_size = max(FONT_SIZE / scale, max(height, width) / 60)  # pixels of the image
    names = metadata.get("thing_classes") or ()
    fields = instances.to("cpu").get_fields()
    fields = {name.removeprefix("gt_").removeprefix("pred_"): field for name, field in fields.items()}
    masks = _whole_masks(fields["masks"], height, width) if "masks" in fields else None

    visualizer = Visualizer(pixels, metadata, scale)
    for i in fields["boxes"].area().argsort(descending=True).tolist():  # small ones on top
        (x0, y0, x1, y1), number = fields["boxes"].tensor[i].tolist(), int(fields["classes"][i])
        colour = COLOURS[number % len(COLOURS)]
        if masks is not None:
            visualizer.draw_binary_mask(masks[i], colour, alpha=0.35, area_threshold=0)
        visualizer.draw_box((x0, y0, x1, y1), edge_color=colour, alpha=0.9)
        label = names[number] if number < len(names) else str(number)
        if "scores" in fields:
            label += f" {fields['scores'][i]:.0%}"
        x, side = (x0, "left") if x0 < 0.6 * width else (min(x1, width), "right")
        y = max(0, y0 - 1.5 * font_size)
        points = 0.72 * font_size  # at Detectron2's 100 dots per inch
        visualizer.draw_text(label, (x, y), font_size=points, color="white", horizontal_alignment=side)
    return visualizer.get_output().get_image()


def _whole_masks(masks: PolygonMasks | BitMasks | torch.Tensor, height: int, width: int) -> np.ndarray:
    """(n, height, width) bool"""
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, height, width)
    return np.asarray(masks.tensor if isinstance(masks, BitMasks) else masks, dtype=bool)
