"""Reads files of results in COCO's format, and describes the first thing that is wrong in one sentence."""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..data.detection.annotation_file import find_geometry_problems, is_one_of, read_json
from ..data.detection.outlines import encode_outline
from ..data.detection.variants import convert_whole_number, leave_out_masks
from ..errors import InputError

FIELDS = ("image_id", "category_id", "score")


def read_results(path: str | os.PathLike, truth: Mapping, boxes_only: bool = False) -> list[dict]:
    """Reads results, such as those of `convmae-det predict`; fields that COCO's format doesn't have are no matter.

    Args:
        path: of the file
        truth: from :func:`~.coco.read_ground_truth_file`; the results are of its images and categories
        boxes_only: leaves the masks of results with a box out, whatever they are

    Returns:
        Its entries, their "image_id" as it is in `truth`, their masks in run lengths; unless `boxes_only`, of all or of
        none a mask.

    Raises:
        InputError: it can't be used.
    """
    results = read_json(path)
    images = {image["id"]: image for image in truth["images"]}
    by_text = {str(number): number for number in images}
    entries = [result for result in results if isinstance(result, dict)] if isinstance(results, list) else []
    if boxes_only or all(result.get("segmentation") in (None, []) for result in entries):
        leave_out_masks(entries)
    for result in entries:
        number = result.get("image_id")
        number = convert_whole_number(number) if isinstance(number, float) else number
        if isinstance(number, (int, str)):
            result["image_id"] = number if number in images else by_text.get(str(number), number)
        if "category_id" in result:
            result["category_id"] = convert_whole_number(result["category_id"])
    masks = not boxes_only and any("segmentation" in result for result in entries)
    if problem := next(_find_problems(results, images, {c["id"] for c in truth["categories"]}, masks), None):
        raise InputError(f"{path}: {problem}")
    for result in results:
        if isinstance(result.get("segmentation"), list):
            image = images[result["image_id"]]
            result["segmentation"] = encode_outline(result["segmentation"], image["height"], image["width"])
    return results


def list_tasks_of_results(results: list[dict]) -> tuple[str, ...]:
    """Lists what results can be evaluated for: boxes and, where they have them, masks."""
    return ("bbox", "segm") if results and "segmentation" in results[0] else ("bbox",)


def count_most(results: list[dict]) -> int:
    """Counts the results of the image that has most; 0 without any."""
    return max(Counter(result["image_id"] for result in results).values(), default=0)


def _find_problems(results: Any, images: Mapping, categories: set, masks: bool) -> Iterator[str]:
    """Yields what is wrong; each check relies on those before it, so only the first is valid."""
    if isinstance(results, dict) and "images" in results:
        yield "it is an annotation file, not one of results: name the annotations first, then the results"
    if not isinstance(results, list):
        yield "it holds no list of results: COCO's format is [{image_id, category_id, bbox, score}, …]"
    for number, result in enumerate(results, start=1):
        if not isinstance(result, dict):
            yield f"result {number} is {str(result)[:50]!r}, not an object with image_id, category_id, bbox and score"
        for field in FIELDS:
            if field not in result:
                yield f"result {number} has no {field!r}: results of a detector have {', '.join(FIELDS)}"
        if not _is_finite(result["score"]):
            yield f"result {number} has the score {result['score']!r}, which is not a finite number"
        if not 0 <= result["score"] <= 1:
            yield (
                f"result {number} has the score {result['score']!r}, but scores are 0 to 1: convert all of them, those "
                "in percent by dividing by 100"
            )
        if not is_one_of(images, result["image_id"]):
            yield (
                f"result {number} is of image {result['image_id']!r}, which the annotations don't have: evaluate it "
                "with the annotations of its images"
            )
        if not is_one_of(categories, result["category_id"]):
            yield f"result {number} is of category {result['category_id']!r}, which the annotations don't have"
        if "segmentation" not in result and (masks or "bbox" not in result):
            advice = "give all results one" + (", or leave them out by --boxes-only" if masks else "")
            yield f"result {number} has no {'mask, though others have' if masks else 'box'}: {advice}"
        yield from (
            f"result {number} {problem}" for problem in _find_shape_problems(result, images[result["image_id"]])
        )


def _find_shape_problems(result: Mapping, image: Mapping) -> Iterator[str]:
    box, mask = result.get("bbox", [0, 0, 0, 0]), result.get("segmentation")
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box)) and min(box[2:]) >= 0):
        yield f"has the box {box!r}, but a box is x, y, width, height in pixels, the last two not negative"
    if isinstance(mask, list) and not (mask and all(isinstance(part, list) and len(part) >= 6 for part in mask)):
        yield "has a mask without outlines, or one of fewer than three corners"
    if "segmentation" in result and not isinstance(mask, (dict, list)):
        yield f"has the mask {mask!r}, but a mask is run lengths or polygons"
    yield from find_geometry_problems({"bbox": box, "segmentation": mask}, image["height"], image["width"])


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
