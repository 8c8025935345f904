"""Objects drawn on images: predictions, ground truth, and the two beside each other."""

import colorsys
import functools
import os
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BitMasks, Instances, PolygonMasks
from PIL import Image, ImageDraw, ImageFont

from .sheet import draw_sheet

MIN_SIDE = 384  # pixels of the longer side; smaller images are enlarged, so that what is written on them is legible
FONT_SIZE = 12  # pixels, as long as no side is longer than 50 times that
DRAWN_FROM = 0.5  # score from which on predictions are drawn unless the user says otherwise
OPACITY = 0.4  # of masks
GOLDEN_RATIO = 0.618034  # of the circle of hues from class to class: no two neighbours are alike
OVERVIEW_SIDE, STRIP = 512, 22  # pixels: longer side of an image on the overview; height of the strip with its name


def draw_overview(pictures: Sequence[Sequence[np.ndarray]], names: Sequence[str], titles: Sequence[str]) -> Image.Image:
    """Several images on one sheet, each with its name below, four panels abreast.

    Args:
        pictures: for each image as many panels (h, w, 3) uint8 as there are titles
    """
    abreast = min(len(pictures), 4 // len(titles))
    cells = [
        [_labelled(panel, name if i == 0 else "") for i, panel in enumerate(picture)]
        for picture, name in zip(pictures, names, strict=True)
    ]
    blank = [np.full((1, 1, 3), 255, dtype=np.uint8)] * len(titles)
    cells += [blank] * (-len(cells) % abreast)
    rows = [sum(cells[start : start + abreast], []) for start in range(0, len(cells), abreast)]
    return draw_sheet(rows, list(titles) * abreast)


def _labelled(panel: np.ndarray, name: str) -> np.ndarray:
    """The panel, shrunk if it is large, with its name in a strip below."""
    image = Image.fromarray(panel)
    image.thumbnail((OVERVIEW_SIDE, OVERVIEW_SIDE))
    labelled = Image.new("RGB", (image.width, image.height + STRIP), "white")
    labelled.paste(image)
    ImageDraw.Draw(labelled).text((0, image.height + STRIP / 2), name, "dimgray", _font(FONT_SIZE), anchor="lm")
    return np.asarray(labelled)


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
        metadata: its thing_classes are the names of the classes; those without a name are numbered

    Returns:
        (h, w, 3) uint8 RGB; H and W, or larger by the same factor
    """
    height, width = pixels.shape[:2]
    scale = -(-MIN_SIDE // max(height, width))
    size = scale * width, scale * height
    fields = instances.to("cpu").get_fields()
    fields = {name.removeprefix("gt_").removeprefix("pred_"): field for name, field in fields.items()}
    order = fields["boxes"].area().argsort(descending=True).tolist()  # small ones on top
    colours = [class_colour(number) for number in fields["classes"].tolist()]
    boxes = [[round(scale * x) for x in box] for box in fields["boxes"].tensor.tolist()]
    canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC) if scale > 1 else pixels.copy()

    if "masks" in fields:
        masks = _whole_masks(fields["masks"], height, width)
        for i in order:
            _draw_mask(canvas, masks[i], colours[i])
    thickness = max(2, round(max(size) / 400))
    for i in order:
        cv2.rectangle(canvas, boxes[i][:2], boxes[i][2:], colours[i], thickness)
    texts = _labels(fields, metadata.get("thing_classes") or ())
    return _draw_labels(canvas, [(texts[i], boxes[i], colours[i]) for i in order])


def class_colour(number: int) -> tuple[int, int, int]:
    """RGB, bright, and unlike those of the numbers before."""
    value = (1.0, 0.8)[number // 8 % 2]
    red, green, blue = colorsys.hsv_to_rgb((0.58 + number * GOLDEN_RATIO) % 1, 0.8, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _labels(fields: dict, names: Sequence[str]) -> list[str]:
    labels = [names[k] if k < len(names) else str(k) for k in fields["classes"].tolist()]
    if "scores" in fields:
        return [f"{label} {score:.0%}" for label, score in zip(labels, fields["scores"].tolist(), strict=True)]
    return labels


def _draw_mask(canvas: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Tints the mask, (H, W) bool, and draws its outline, in place."""
    mask = mask.astype(np.uint8)
    if mask.shape != canvas.shape[:2]:  # of an enlarged image: with smooth outlines
        enlarged = cv2.resize(255 * mask, canvas.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        mask = (enlarged > 127).astype(np.uint8)
    inside = mask.astype(bool)
    canvas[inside] = ((1 - OPACITY) * canvas[inside] + OPACITY * np.array(colour)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, colour, 1, cv2.LINE_AA)


def _draw_labels(canvas: np.ndarray, labels: Sequence[tuple[str, list[int], tuple]]) -> np.ndarray:
    """Each label on a ground of its colour at the corner of its box that is free of other labels."""
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    size = max(FONT_SIZE, max(picture.size) // 50)
    font, height, taken = _font(size), round(1.35 * size), []
    for text, box, colour in labels:
        width = round(font.getlength(text)) + size // 2
        place = _free_place(box, width, height, picture.size, taken)
        taken.append(place)
        draw.rectangle(place, fill=colour)
        bright = np.dot(colour, (0.299, 0.587, 0.114)) > 140
        middle = (place[1] + place[3]) / 2
        draw.text((place[0] + size // 4, middle), text, "black" if bright else "white", font, anchor="lm")
    return np.asarray(picture)


def _free_place(box: list[int], width: int, height: int, image: tuple[int, int], taken: Sequence[tuple]) -> tuple:
    """x0 y0 x1 y1 of a label in the image: above the box, in it, below it, at its left or right; the first if none is
    free."""
    x0, y0, x1, y1 = box
    corners = [(x, y) for y in (y0 - height, y0, y1, y1 - height) for x in (x0, x1 - width)]
    places = []
    for x, y in corners:
        x, y = max(0, min(x, image[0] - width)), max(0, min(y, image[1] - height))
        places.append((x, y, x + width - 1, y + height - 1))
    free = (a for a in places if all(a[0] > b[2] or b[0] > a[2] or a[1] > b[3] or b[1] > a[3] for b in taken))
    return next(free, places[0])


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib's own font: what Pillow falls back to lacks most letters
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _whole_masks(masks: PolygonMasks | BitMasks | torch.Tensor, height: int, width: int) -> np.ndarray:
    """(n, height, width) bool"""
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, height, width)
    return np.asarray(masks.tensor if isinstance(masks, BitMasks) else masks, dtype=bool)
