"""Objects drawn on images: predictions, ground truth, and the two beside each other."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BitMasks, Instances, PolygonMasks
from PIL import Image, ImageDraw, ImageFont
from supervision import (
    BoxAnnotator,
    Color,
    ColorPalette,
    Detections,
    MaskAnnotator,
    PolygonAnnotator,
    RichLabelAnnotator,
)
from torch.nn.functional import interpolate

from .sheet import FONT, draw_sheet

MIN_SIDE = 384  # pixels of the longer side; smaller images are enlarged, so that what is written on them is legible
FONT_SIZE = 12  # pixels, as long as no side is longer than 50 times that
DRAWN_FROM = 0.5  # score from which on predictions are drawn unless the user says otherwise
OPACITY = 0.4  # of masks
GOLDEN_RATIO = 0.618034  # of the circle of hues from class to class: no two neighbours are alike
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
    image = Image.fromarray(panel)
    image.thumbnail((OVERVIEW_SIDE, OVERVIEW_SIDE))
    labelled = Image.new("RGB", (image.width, image.height + STRIP), "white")
    labelled.paste(image)
    font = ImageFont.truetype(FONT, FONT_SIZE)
    ImageDraw.Draw(labelled).text((0, image.height + STRIP / 2), name, "dimgray", font, anchor="lm")
    return np.asarray(labelled)


def build_ground_truth(annotations: Sequence[dict], size: tuple[int, int]) -> Instances:
    """Builds gt_boxes, gt_classes and, if all have masks, gt_masks of the annotated objects, crowds left out.

    Args:
        annotations: Detectron2's, of an image
        size: (height, width) of the image
    """
    annotations = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
    if not all("segmentation" in annotation for annotation in annotations):
        keys = ("bbox", "bbox_mode", "category_id")
        annotations = [{key: annotation[key] for key in keys} for annotation in annotations]
    return annotations_to_instances(annotations, size, "bitmask")


def draw_instances(pixels: np.ndarray, instances: Instances, metadata: Metadata) -> np.ndarray:
    """Draws boxes, classes and, as far as there are any, masks and scores on an image, in a colour for each class.

    Args:
        pixels: (H, W, 3) uint8 RGB
        instances: predictions (pred_boxes, …) or ground truth (gt_boxes, …) at the image's size
        metadata: its thing_classes are the names of the classes; those without a name are numbered

    Returns:
        (h, w, 3) uint8 RGB; H and W, or larger by the same factor
    """
    height, width = pixels.shape[:2]
    scale = -(-MIN_SIDE // max(height, width))
    objects = _convert_instances(instances.to("cpu"), metadata.get("thing_classes") or (), scale)
    size = max(scale * height, scale * width)
    colours = ColorPalette([Color(*choose_colour(number)) for number in range(max(objects.class_id, default=0) + 1)])
    font_size = max(FONT_SIZE, size // 50)
    annotators = (
        MaskAnnotator(colours, OPACITY),
        PolygonAnnotator(colours, thickness=1),
        BoxAnnotator(colours, thickness=max(2, round(size / 400))),
        RichLabelAnnotator(
            colours,
            text_color=ColorPalette([_choose_text_colour(colour) for colour in colours.colors]),
            font_path=FONT,
            font_size=font_size,
            text_padding=font_size // 4,
            smart_position=True,
        ),
    )
    canvas = pixels[:, :, ::-1].copy()  # supervision draws on BGR
    if scale > 1:
        canvas = cv2.resize(canvas, (scale * width, scale * height), interpolation=cv2.INTER_CUBIC)
    for annotator in annotators:
        canvas = annotator.annotate(canvas, objects)
    return np.ascontiguousarray(canvas[:, :, ::-1])


def choose_colour(number: int) -> tuple[int, int, int]:
    """Chooses the colour of a class, RGB: bright, and unlike those of the numbers before."""
    value = (1.0, 0.8)[number // 8 % 2]
    red, green, blue = colorsys.hsv_to_rgb((0.58 + number * GOLDEN_RATIO) % 1, 0.8, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _choose_text_colour(ground: Color) -> Color:
    return Color.BLACK if np.dot(ground.as_rgb(), (0.299, 0.587, 0.114)) > 140 else Color.WHITE


def _convert_instances(instances: Instances, names: Sequence[str], scale: int) -> Detections:
    """Converts predictions or ground truth for supervision: enlarged, small ones last and so on top."""
    fields = {name.removeprefix("gt_").removeprefix("pred_"): field for name, field in instances.get_fields().items()}
    classes = fields["classes"].numpy()
    labels = [names[k] if k < len(names) else str(k) for k in classes]
    if "scores" in fields:
        labels = [f"{label} {score:.0%}" for label, score in zip(labels, fields["scores"].tolist(), strict=True)]
    objects = Detections(
        xyxy=(scale * fields["boxes"].tensor).round().numpy(),
        mask=_enlarge_masks(fields["masks"], instances.image_size, scale) if "masks" in fields else None,
        class_id=classes,
        data={"class_name": np.array(labels, dtype=object)},
    )
    return objects[np.argsort(-objects.box_area, kind="stable")]


def _enlarge_masks(masks: PolygonMasks | BitMasks | torch.Tensor, size: tuple[int, int], scale: int) -> np.ndarray:
    """Makes (n, scale · height, scale · width) bool for an image of `size` (height, width); outlines are smooth."""
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *size)
    masks = (masks.tensor if isinstance(masks, BitMasks) else masks).bool()
    if scale > 1 and len(masks):
        masks = interpolate(masks[None].float(), scale_factor=scale, mode="bilinear")[0] > 0.5
    return masks.numpy()
