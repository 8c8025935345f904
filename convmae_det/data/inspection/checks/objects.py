"""Checks of the boxes and masks of objects."""

from collections.abc import Iterator

import numpy as np

from ..findings import Example, Finding, Findings, Severity, format_count, has_or_have, is_or_are
from ..inspection import Inspection
from ..outlines import compute_mask_corners, is_polygon
from ..splits import Objects, Split, describe_objects

OUTSIDE = 1.0  # pixels by which a box may leave its image
TINY_SIDE, TINY_AREA = 1.0, 4.0  # pixels, of boxes and outlines
UNLIKE, LEAST_OVERLAP = 2.0, 0.8  # box and mask may differ by these pixels at each side, or overlap by this share
CROSSED = 0.05  # the part of an outline that a crossing may disturb without harm
SAME_OBJECT = 0.95  # overlap of two boxes that are of one object


def boxes_outside_images(data: Inspection) -> Findings:
    for split, objects in data.annotated:
        sides = data.sizes[split.name][objects.images][:, ::-1]  # width and height of each object's image
        beyond = np.maximum(-objects.corners[:, :2], objects.corners[:, 2:] - sides).max(axis=1)
        chosen = beyond > OUTSIDE
        if count := int(chosen.sum()):
            gone = ((objects.corners[:, :2] >= sides) | (objects.corners[:, 2:] <= 0)).any(axis=1) & chosen
            entirely = f", {int(gone.sum()):,} of them entirely" if gone.any() else ""
            yield Finding(
                Severity.WARNING,
                f"{format_count(count, 'box')} of {split.name} {is_or_are(count)} partly outside the image{entirely}",
                "correct them: training cuts them at the border, but they count whole in evaluation",
                count,
                describe_objects(split, objects, chosen, [f"{pixels:.0f} pixels outside" for pixels in beyond]),
            )


def boxes_unlike_masks(data: Inspection) -> Findings:
    for split, objects in data.annotated:
        found = compute_mask_corners(objects.entries, objects.polygons)
        apart = np.abs(found - objects.corners).max(axis=1)  # nan without a mask
        with np.errstate(invalid="ignore"):
            unlike = (apart > UNLIKE) & (compute_overlap(found, objects.corners) < LEAST_OVERLAP)
        if count := int(unlike.sum()):
            details = [f"up to {pixels:.0f} pixels apart" for pixels in apart]
            boxes_of_masks = np.concatenate([found[:, :2], found[:, 2:] - found[:, :2]], axis=1)
            yield Finding(
                Severity.WARNING,
                f"box and mask of {format_count(count, 'object')} of {split.name} disagree",
                "correct one of them: training with masks takes the box of the mask, evaluation that of the file",
                count,
                describe_objects(split, objects, unlike, details, boxes_of_masks),
            )


def compute_overlap(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Computes the intersection over union of boxes (…, 4), given by the least x and y and the largest."""
    least, most = np.maximum(ones[..., :2], others[..., :2]), np.minimum(ones[..., 2:], others[..., 2:])
    common = np.clip(most - least, 0, None).prod(axis=-1)
    areas = [(corners[..., 2:] - corners[..., :2]).prod(axis=-1) for corners in (ones, others)]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-9)


def tiny_objects(data: Inspection) -> Findings:
    for split, objects in data.annotated:
        polygons, sides = objects.polygons, objects.boxes[:, 2:]
        areas = np.full(len(sides), np.inf)
        areas[polygons.objects] = 0
        np.add.at(areas, polygons.objects, polygons.areas)
        tiny = (sides.min(axis=1) <= TINY_SIDE) | (areas < TINY_AREA) | _have_no_corners(objects)
        tiny &= ~objects.crowd
        if count := int(tiny.sum()):
            yield Finding(
                Severity.WARNING,
                f"{format_count(count, 'object')} of {split.name} {has_or_have(count)} a box one pixel wide or high, "
                f"or an outline that encloses less than {TINY_AREA:.0f} pixels",
                "remove those that are slips of the mouse: nothing can be learned from them, but they count as missed",
                count,
                describe_objects(split, objects, tiny, [f"{x:g}×{y:g} pixels" for x, y in sides.round(1).tolist()]),
            )


def _have_no_corners(objects: Objects) -> np.ndarray:
    """Whether objects have outlines, but each of fewer than three corners: (m,) bool."""
    masks = [entry.get("segmentation") for entry in objects.entries]
    return np.array([isinstance(mask, list) and bool(mask) and not any(map(is_polygon, mask)) for mask in masks], bool)


def crossing_outlines(data: Inspection) -> Findings:
    for split, objects in data.annotated:
        polygons = objects.polygons
        spoiled = np.zeros(len(objects.entries), bool)
        spoiled[polygons.objects[polygons.crossing > CROSSED]] = True
        if count := int(spoiled.sum()):
            yield Finding(
                Severity.WARNING,
                f"{format_count(count, 'object')} of {split.name} {has_or_have(count)} an outline that crosses itself, "
                "so that a part of it counts as outside, or twice",
                "draw it again; corners clicked in a wrong order make an 8 of a square",
                count,
                describe_objects(split, objects, spoiled),
            )
        if count := int(((polygons.crossing > 0) & (polygons.crossing <= CROSSED)).sum()):
            problem = (
                f"of {format_count(count, 'outline')} of {split.name}, a small part crosses itself, which does no harm"
            )
            yield Finding(Severity.NOTE, problem, count=count)


def objects_annotated_twice(data: Inspection) -> Findings:
    """Objects of nearly the same box in an image."""
    for split, objects in data.annotated:
        pairs = np.array(list(_pair_boxes(objects)), int).reshape(-1, 2)
        is_same = objects.labels[pairs[:, 0]] == objects.labels[pairs[:, 1]]
        if count := int(is_same.sum()):
            yield Finding(
                Severity.WARNING,
                f"{format_count(count, 'object')} of {split.name} {has_or_have(count)} the class and nearly the box of "
                "another in the same image",
                "remove the second annotation: of two for one object, one counts as missed",
                count,
                _describe_pairs(split, objects, pairs[is_same]),
            )
        if count := int((~is_same).sum()):
            yield Finding(
                Severity.NOTE,
                f"{format_count(count, 'object')} of {split.name} {has_or_have(count)} nearly the box of another in "
                "the same image, of another class",
                "look whether both are meant",
                count,
                _describe_pairs(split, objects, pairs[~is_same]),
            )


def _describe_pairs(split: Split, objects: Objects, pairs: np.ndarray) -> list[Example]:
    examples = []
    for one, other in pairs.tolist():
        names = [split.classes[objects.labels[index]] for index in (other, one)]
        detail = f"{names[0]}, as annotation {objects.entries[one]['id']}"
        detail += f", {names[1]}" if names[0] != names[1] else ""
        boxes = tuple(tuple(objects.boxes[index].tolist()) for index in (other, one))
        examples.append(Example((split.paths[objects.images[one]],), detail, objects.entries[other]["id"], boxes))
    return examples


def _pair_boxes(objects: Objects) -> Iterator[tuple[int, int]]:
    """Yields pairs of objects of an image whose boxes overlap by SAME_OBJECT."""
    order = np.flatnonzero(~objects.crowd)
    order = order[np.argsort(objects.images[order], kind="stable")]
    for group in np.split(order, np.flatnonzero(np.diff(objects.images[order])) + 1):
        corners = objects.corners[group]
        same = compute_overlap(corners[:, None], corners[None]) >= SAME_OBJECT
        for one, other in np.argwhere(np.triu(same, 1)).tolist():
            yield int(group[one]), int(group[other])
