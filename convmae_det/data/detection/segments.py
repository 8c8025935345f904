"""Segments of an image: an id at every pixel, in COCO's panoptic format as the colours of a PNG.

A segment is an object, of a category of *things*, or all that an image has of a category of *stuff*. Pixels with the
id 0 are *void*: of no segment. In `segments_info` as here, things have the numbers 0, 1, … as "category_id", and stuff,
in a numbering of its own, 1, 2, …: 0 stands there for all things, as in Detectron2's panoptic FPN.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from pycocotools import mask as run_lengths

from ...errors import InputError, shorten_list
from ..image import DEFAULT, Decoding, open_image, report_errors

VOID = 0
LARGEST_ID = 256**3 - 1


def read_segments(path: str, decoding: Decoding = DEFAULT) -> np.ndarray:
    """Reads the ids at an image's pixels: (H, W) int32.

    Raises:
        InputError: the file can't be read, or is no picture in colours that are kept as they are.
    """
    with report_errors(path), open_image(path, decoding) as image:
        mode = "JPEG" if image.format == "JPEG" else image.mode
        colours = np.array(image, np.int32) if mode in ("RGB", "RGBA") else None
    if colours is None:
        raise InputError(
            f"{path} holds no segments, but a picture in {mode}: save each pixel's segment as the colour of an RGB "
            "PNG, its id being red + 256 · green + 65536 · blue."
        )
    return colours[..., 0] + 256 * colours[..., 1] + 256**2 * colours[..., 2]


def colour_segments(ids: np.ndarray) -> np.ndarray:
    """Makes colours of ids, as :func:`read_segments` reads them: (H, W, 3) uint8 of (H, W) whole numbers."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1).astype(np.uint8)


def find_segment_problems(ids: np.ndarray, segments: Sequence[Mapping], size: tuple[int, int]) -> Iterator[str]:
    """Yields what is wrong with the PNG of an image; the first is valid.

    Args:
        ids: (H, W)
        segments: those that its annotation lists, with their "id"
        size: (height, width) that its annotation states
    """
    if ids.shape != tuple(size):
        yield (
            f"is {ids.shape[1]}×{ids.shape[0]} pixels, but its image is {size[1]}×{size[0]}: label the image at its "
            "own size"
        )
    found, listed = set(np.unique(ids).tolist()) - {VOID}, {segment["id"] for segment in segments}
    if unknown := sorted(found - listed):
        yield (
            f"holds pixels of the segment{'s' * (len(unknown) > 1)} {shorten_list(unknown)}, which its annotation "
            "doesn't list in 'segments_info': add them there, or make their pixels black, which is void"
        )
    if missing := sorted(listed - found):
        yield (
            f"holds no pixel of the segment{'s' * (len(missing) > 1)} {shorten_list(missing)}, which its annotation "
            "lists in 'segments_info': take them out there, or draw them"
        )


def label_pixels(ids: np.ndarray, segments: Sequence[Mapping], ignore_value: int) -> np.ndarray:
    """Labels the pixels for the semantic head: (H, W) uint8, 0 for things, else the number of the stuff.

    Args:
        ids: (H, W)
        segments: see `segments_info` above
        ignore_value: of void pixels, at most 255
    """
    labels = {segment["id"]: 0 if segment["isthing"] else segment["category_id"] for segment in segments}
    values, places = np.unique(ids, return_inverse=True)
    found = np.array([labels.get(value, ignore_value) for value in values.tolist()], np.uint8)
    return found[places].reshape(ids.shape)


def describe_objects(ids: np.ndarray, segments: Sequence[Mapping]) -> list[dict]:
    """Describes the things of an image as annotations of Detectron2, with boxes around their pixels.

    Args:
        ids: (H, W)
        segments: see `segments_info` above; each has pixels
    """
    return [
        {"category_id": segment["category_id"], "iscrowd": segment["iscrowd"]} | _outline(ids == segment["id"])
        for segment in segments
        if segment["isthing"]
    ]


def _outline(mask: np.ndarray) -> dict[str, Any]:
    encoded: Any = run_lengths.encode(np.asfortranarray(mask, np.uint8))
    box = run_lengths.toBbox(encoded).tolist()
    text = {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}
    return {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "segmentation": text}
