"""Objects drawn on images: predictions, ground truth, and the two beside each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.data import Metadata
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BitMasks, Instances, PolygonMasks
from PIL import Image, ImageDraw

from ..data.detection.outlines import encode_outline
from ..data.run_length_masks import RunLengthMasks
from ..data.runs import Runs
from .fonts import write
from .labels import Label, draw_labels
from .outlines import Outline, draw_objects, draw_traces, trace_mask
from .sheet import draw_sheet

MIN_SIDE = 384  # pixels of the longer side; smaller images are enlarged, so that what is written on them is legible
FONT_SIZE = 12  # pixels, as long as no side is longer than 50 times that
DRAWN_FROM = 0.5  # score from which on predictions are drawn unless the user says otherwise
OVERVIEW_SIDE, STRIP = 512, 22  # pixels: longer side of an image on the overview; height of the strip with its name


def draw_overview(pictures: Sequence[Sequence[np.ndarray]], names: Sequence[str], titles: Sequence[str]) -> Image.Image:
    """Draws several images on one sheet, each with its name below, four panels abreast.

    Args:
        pictures: for each image as many panels (h, w, 3) uint8 as there are titles
    """
    abreast = min(len(pictures), 4 // len(titles))
    cells = [
        [_label_panel(panel, name if i == 0 else "") for i, panel in enumerate(picture)]
        for picture, name in zip(pictures, names, strict=True)
    ]
    blank = [np.full((1, 1, 3), 255, dtype=np.uint8)] * len(titles)
    cells += [blank] * (-len(cells) % abreast)
    rows = [sum(cells[start : start + abreast], []) for start in range(0, len(cells), abreast)]
    return draw_sheet(rows, list(titles) * abreast)


def _label_panel(panel: np.ndarray, name: str) -> np.ndarray:
    """Shrinks a panel if it is large, and writes its name in a strip below."""
    image = Image.fromarray(shrink_panel(panel))
    labelled = Image.new("RGB", (image.width, image.height + STRIP), "white")
    labelled.paste(image)
    text, font = write(name, FONT_SIZE)
    ImageDraw.Draw(labelled).text((0, image.height + STRIP / 2), text, "dimgray", font, anchor="lm")
    return np.asarray(labelled)


def shrink_panel(panel: np.ndarray) -> np.ndarray:
    """Shrinks a picture, (h, w, 3) uint8, that is larger than it is on an overview."""
    image = Image.fromarray(panel)
    image.thumbnail((OVERVIEW_SIDE, OVERVIEW_SIDE))
    return np.asarray(image)


def build_ground_truth(annotations: Sequence[dict], size: tuple[int, int]) -> Instances:
    """Builds gt_boxes, gt_classes and, if all have masks, gt_masks, in run lengths, of the objects without crowds.

    Args:
        annotations: Detectron2's, of an image
        size: (height, width) of the image
    """
    annotations = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
    keys = ("bbox", "bbox_mode", "category_id")
    instances = annotations_to_instances([{key: annotation[key] for key in keys} for annotation in annotations], size)
    if annotations and all("segmentation" in annotation for annotation in annotations):
        runs = [_read_mask(annotation["segmentation"], size) for annotation in annotations]
        instances.gt_masks = RunLengthMasks(runs, size)
    return instances


def _read_mask(outline: Any, size: tuple[int, int]) -> Runs:
    """Reads a mask as Detectron2 has it: polygons, run lengths or an array (H, W)."""
    if isinstance(outline, np.ndarray):
        return Runs.from_mask(outline > 0)
    return Runs.from_coco(encode_outline(outline, *size)) if outline else Runs.from_box((0, 0, 0, 0))


def draw_instances(
    pixels: np.ndarray, instances: Instances, metadata: Metadata, traces: Mapping[int, np.ndarray] | None = None
) -> np.ndarray:
    """Draws boxes, classes and, as far as there are any, masks and scores on an image, in a colour for each class.

    Args:
        pixels: (H, W, 3) uint8 RGB
        instances: predictions (pred_boxes, …) or ground truth (gt_boxes, …) at the image's size
        metadata: its thing_classes are the names of the classes; those without a name are numbered
        traces: of objects with track_ids: the centres, (k, 2) in pixels, where each has been, by its number

    Returns:
        (h, w, 3) uint8 RGB; H and W, or larger by the same factor
    """
    height, width = pixels.shape[:2]
    scale = choose_scale(height, width)
    size = scale * max(height, width)
    canvas = pixels.copy()
    if scale > 1:
        canvas = cv2.resize(canvas, (scale * width, scale * height), interpolation=cv2.INTER_CUBIC)
    labels, outlines = _read_objects(instances.to("cpu"), metadata.get("thing_classes") or (), scale)
    line = max(2, round(size / 500))
    draw_objects(canvas, labels, outlines, line)
    draw_traces(canvas, labels, traces or {}, scale, line)
    picture = Image.fromarray(canvas)
    draw_labels(picture, labels, max(FONT_SIZE, size // 60))
    return np.asarray(picture)


def choose_scale(height: int, width: int) -> int:
    """Chooses how many times as large a small image is drawn."""
    return -(-MIN_SIDE // max(height, width))


def add_room(image: Image.Image, height: int) -> Image.Image:
    """Puts an image on a white canvas of MIN_SIDE pixels' width at least, with room below it."""
    canvas = Image.new("RGB", (max(image.width, MIN_SIDE), image.height + height), "white")
    canvas.paste(image, ((canvas.width - image.width) // 2, 0))
    return canvas


def _read_objects(instances: Instances, names: Sequence[str], scale: int) -> tuple[list[Label], list[Outline]]:
    """Reads predictions or ground truth, enlarged: small ones last and so on top; without masks, no outlines."""
    fields = {name.removeprefix("gt_").removeprefix("pred_"): field for name, field in instances.get_fields().items()}
    boxes, masks = fields["boxes"], fields.get("masks")
    if isinstance(masks, PolygonMasks):
        masks = RunLengthMasks(
            [_read_mask(mask, instances.image_size) for mask in masks.polygons], instances.image_size
        )
    if isinstance(masks, BitMasks):
        masks = masks.tensor
    if masks is not None:
        masks = RunLengthMasks.from_masks(masks, instances.image_size)
    labels, outlines = [], []
    for number in boxes.area().argsort(descending=True, stable=True).tolist():
        index = int(fields["classes"][number])
        name = names[index] if index < len(names) else str(index)
        track = int(fields["track_ids"][number]) if "track_ids" in fields else -1
        text = name if track < 0 else f"{name} #{track}"
        text = f"{text} {float(fields['scores'][number]):.0%}" if "scores" in fields else text
        box = (scale * boxes.tensor[number]).round().tolist()
        labels.append(Label(box, index, text, name, track if track >= 0 else None))
        if masks is not None:
            outlines.append(trace_mask(*masks.crop(number), scale))
    return labels, outlines
