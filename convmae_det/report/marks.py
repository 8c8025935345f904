"""The objects of an image as marks that lie over it: annotated ones, found ones, and what is wrong with each.

Marks are in pixels of the annotated image, so that they fit a picture of any size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as run_lengths

from ..data.detection.outlines import encode_outline
from ..evaluation.error_kinds import CORRECT, IGNORED, MISSED
from .errors import KINDS

DETAIL, TOLERANCE = 640, 0.9  # outlines are drawn at so many pixels of the longer side, and may be off by so many
Box = Sequence[float]  # left, top, width, height


@dataclass(frozen=True)
class Mark:
    """An object over an image."""

    name: str  # class and score
    explanation: str  # the same, with what is wrong
    classes: str  # indices of the classes that it concerns, apart by spaces
    kind: str  # correct, a kind of error, or "" for an annotated object that was found
    box: Box
    outline: str = ""  # SVG path of its mask
    is_truth: bool = False
    letter: str = ""


def make_marks(
    image: Mapping, annotated: Sequence[int], truth: Mapping, results: Sequence[Mapping], size: tuple[int, int]
) -> list[Mark]:
    """Makes the marks of an image: annotated objects first, then correct detections, then errors.

    Args:
        image: an entry of "images" of a task, of `explain_results`
        annotated: places of its annotations
        truth: the annotations' file
        results: in COCO's format
        size: (height, width) of the image
    """
    indices = {category["id"]: index for index, category in enumerate(truth["categories"])}
    names = [category["name"] for category in truth["categories"]]
    annotations = truth["annotations"]

    def label(entry: Mapping) -> str:
        return names[indices[entry["category_id"]]]

    marks = []
    for entry in annotated:
        annotation = annotations[entry]
        kind = MISSED if entry in image["missed"] else ""
        name, index = label(annotation), str(indices[annotation["category_id"]])
        text = f"{name}: {KINDS[kind].title if kind else 'annotated'}"
        marks.append(_make_mark(annotation, name, text, index, kind, size, is_truth=True))
    found = []
    for verdict in image["verdicts"]:
        result, kind = results[verdict["result"]], verdict["verdict"]
        if kind == IGNORED:
            continue
        classes = [indices[result["category_id"]]]
        name = text = f"{label(result)} {result['score']:.0%}"
        if kind in KINDS:
            text += f": {KINDS[kind].title}"
        if verdict["truth"] is not None:
            true = annotations[verdict["truth"]]
            classes.append(indices[true["category_id"]])
            text += f", overlap {verdict['iou']:.0%}"
            if classes[0] != classes[1]:
                name, text = f"{name} (is {label(true)})", f"{text}, is {label(true)}"
        found.append(_make_mark(result, name, text, " ".join(map(str, dict.fromkeys(classes))), kind, size))
    return marks + sorted(found, key=lambda mark: mark.kind != CORRECT)


def _make_mark(
    entry: Mapping, name: str, text: str, classes: str, kind: str, size: tuple[int, int], is_truth: bool = False
) -> Mark:
    outline = "".join(draw_outline(entry.get("segmentation"), size))
    box = [round(float(value), 1) for value in _find_box(entry, size)]
    letter = KINDS[kind].letter if kind in KINDS else ""
    return Mark(name, text, classes, kind, box, outline, is_truth, letter)


def _find_box(entry: Mapping, size: tuple[int, int]) -> Box:
    if "bbox" in entry:
        return entry["bbox"]
    return run_lengths.toBbox(encode_outline(entry["segmentation"], *size)).tolist()


def draw_outline(mask: object, size: tuple[int, int]) -> Iterator[str]:
    """Draws the outlines of a mask as parts of an SVG path.

    Args:
        mask: polygons or run lengths, as in COCO's format; anything else has no outline
        size: (height, width) of the image
    """
    scale = DETAIL / max(size)
    if isinstance(mask, list):
        contours = [np.asarray(polygon, dtype=np.float32).reshape(-1, 2) for polygon in mask]
    elif isinstance(mask, dict):
        pixels = 255 * run_lengths.decode(encode_outline(mask, *size))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=way) > 127
        found, _ = cv2.findContours(resized.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        contours = [((contour[:, 0] + 0.5) / scale).astype(np.float32) for contour in found]
    else:
        return
    digits = 0 if scale < 1 else 1
    for contour in contours:
        corners = cv2.approxPolyDP(contour, TOLERANCE / scale, closed=True)[:, 0]
        if len(corners) > 2:
            yield "M" + "L".join(f"{x:.{digits}f} {y:.{digits}f}" for x, y in corners) + "Z"
