"""Objects of an image, put together from what its views show: overlapping tiles, and the whole image shrunk.

Two views that show the same object show the same pixels of it where they overlap, whether they show all of it or a
part. So detections of two views are of one object if they agree *there*: an object that is cut by a border is then
joined with its other part, one that several views show whole is counted once, and neighbours that touch remain two.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely

from ..data.runs import Runs, compute_agreement, unite
from ..data.tiles import Tile

WHOLE = -1  # number of the view that is the whole image: the last of all
AGREEMENT = 0.5  # intersection over union, in what two views share, from which on they show the same object
COVERED = 0.5  # share of a doubtful object that others of its class take up, above which it is left out
MARGIN = 1 / 128  # of a view's side: what comes closer to its border may be cut by it


class Part(NamedTuple):
    """An object as a view shows it, in the image's pixels.

    Attributes:
        view: number of the view; WHOLE for the whole image
        label: number of the class
        score: 0 to 1
        box: x0 y0 x1 y1
        mask: its pixels; of a detector without masks, those of its box
    """

    view: int
    label: int
    score: float
    box: tuple[float, float, float, float]
    mask: Runs


class Found(NamedTuple):
    """An object of the image; see :class:`Part`."""

    label: int
    score: float
    box: tuple[float, float, float, float]
    mask: Runs


def merge_parts(parts: Sequence[Part], views: Sequence[Tile]) -> list[Found]:
    """Merges what the views of an image show.

    Args:
        parts: found in the views
        views: by number, the tiles and, last, the image, whether or not anything was looked for in it as a whole

    Returns:
        The objects by falling score. One that a tile holds whole is as that tile shows it, the surest if several do.
        Another consists of its parts and, where no tile shows it, of what the whole image shows.
    """
    groups = [[parts[member] for member in members] for members in group_parts(parts, views)]
    found = [(_join(group, views), _is_doubtful(group, views)) for group in groups]
    return sorted(_leave_out_covered(found), key=lambda found: -found.score)


def group_parts(parts: Sequence[Part], views: Sequence[Tile]) -> list[list[int]]:
    """Groups parts of the same object, of each view one at most, beginning with those that agree most.

    One of each view, because its detector has told them apart: so no chain of parts that agree joins two neighbours.
    """
    groups, group_of = {number: [number] for number in range(len(parts))}, list(range(len(parts)))
    shown_in = [{part.view} for part in parts]  # of each group
    pairs = ((compute_shared_agreement(parts[a], parts[b], views), a, b) for a, b in _find_neighbours(parts))
    agreeing = [pair for pair in pairs if pair[0] >= AGREEMENT]
    for _, a, b in sorted(agreeing, key=lambda pair: (-pair[0], *pair[1:])):
        one, other = group_of[a], group_of[b]
        if one == other or shown_in[one] & shown_in[other]:
            continue
        for member in groups[other]:
            group_of[member] = one
        groups[one] += groups.pop(other)
        shown_in[one] |= shown_in[other]
    return list(groups.values())


def _find_neighbours(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """Finds pairs of the same class, in different views, whose boxes meet."""
    pairs = _find_meeting([part.box for part in parts]).tolist()
    return [(a, b) for a, b in pairs if a < b and parts[a].label == parts[b].label and parts[a].view != parts[b].view]


def _find_meeting(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Finds which boxes meet: pairs (n, 2) of their numbers, in either order."""
    shapes = shapely.box(*np.reshape(boxes, (-1, 4)).T)
    return shapely.STRtree(shapes).query(shapes, predicate="intersects").T


def compute_shared_agreement(one: Part, other: Part, views: Sequence[Tile]) -> float:
    """Computes the intersection over union of two parts in what their views share."""
    shared = views[one.view].intersect(views[other.view])
    return compute_agreement(one.mask.clip(shared), other.mask.clip(shared))


def _join(group: Sequence[Part], views: Sequence[Tile]) -> Found:
    """Makes one object of its parts."""
    best = max(group, key=lambda part: part.score)
    tiled = [part for part in group if part.view != WHOLE]
    if complete := [part for part in tiled if _is_complete(part, group, views)]:
        shown = max(complete, key=lambda part: part.score)
        return Found(best.label, best.score, shown.box, shown.mask)
    masks = [part.mask for part in tiled]
    for part in group:
        if part.view == WHOLE:
            coarse = part.mask
            for other in tiled:
                coarse = coarse.leave_out(views[other.view])
            masks.append(coarse)
    x0, y0, x1, y1 = np.array([part.box for part in group]).T
    return Found(best.label, best.score, (x0.min(), y0.min(), x1.max(), y1.max()), unite(masks))


def _find_cuts(part: Part, views: Sequence[Tile]) -> list[int]:
    """Finds the sides of its view, 0 to 3 as in x0 y0 x1 y1, that may cut a part: those within the image."""
    view, image = views[part.view], views[WHOLE]
    margins = (max(1.0, MARGIN * view.width), max(1.0, MARGIN * view.height))
    rooms = (part.box[side] - view.box[side] if side < 2 else view.box[side] - part.box[side] for side in range(4))
    return [side for side, room in enumerate(rooms) if room < margins[side % 2] and view.box[side] != image.box[side]]


def _is_complete(part: Part, group: Sequence[Part], views: Sequence[Tile]) -> bool:
    """Whether a view shows all of an object: it doesn't cut it, and no other view shows any of it outside this one."""
    boxes, (x0, y0, x1, y1) = np.array([other.box for other in group]), views[part.view].box
    inside = (boxes[:, :2] >= (x0, y0)).all() and (boxes[:, 2:] <= (x1, y1)).all()
    return bool(inside) and not _find_cuts(part, views)


def _is_doubtful(group: Sequence[Part], views: Sequence[Tile]) -> bool:
    """Whether an object may be a piece of another, or be several.

    It is cut at a side beyond which no other view shows more of it, or found in the whole image alone though a tile
    holds it whole.
    """
    if any(part.view == WHOLE for part in group):
        tiles = range(len(views) - 1)
        return len(group) == 1 and any(not _find_cuts(group[0]._replace(view=number), views) for number in tiles)
    if any(_is_complete(part, group, views) for part in group):
        return False
    boxes = np.array([views[part.view].box for part in group])
    reach = np.concatenate((boxes[:, :2].min(0), boxes[:, 2:].max(0)))  # of all views that show the object
    return any(views[part.view].box[side] == reach[side] for part in group for side in _find_cuts(part, views))


def _leave_out_covered(objects: Sequence[tuple[Found, bool]]) -> list[Found]:
    """Leaves out the doubtful ones, of which each says whether it is, that others of their class mostly take up."""
    meeting: dict[int, list[int]] = {number: [] for number in range(len(objects))}
    for one, other in _find_meeting([found.box for found, _ in objects]).tolist():
        if one != other and objects[one][0].label == objects[other][0].label:
            meeting[one].append(other)
    kept = {number for number, (_, doubtful) in enumerate(objects) if not doubtful}
    for number in sorted(set(meeting) - kept, key=lambda number: -objects[number][0].mask.area):  # whole before pieces
        mask = objects[number][0].mask
        others = [objects[other][0].mask.clip(mask.find_extent()) for other in meeting[number] if other in kept]
        alone = unite([mask, *others]).area - unite(others).area if others else mask.area
        if alone >= (1 - COVERED) * mask.area:
            kept.add(number)
    return [objects[number][0] for number in sorted(kept)]
