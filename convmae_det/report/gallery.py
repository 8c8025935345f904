"""The gallery of a detector: some of its worst and best images, each error marked."""

import itertools
import math
import os
from collections.abc import Mapping

from detectron2.config import CfgNode
from markupsafe import Markup

from ..data.image import Decoding
from ..data.large_image import read_shrunk
from ..errors import InputError
from .detector_results import DetectorResults
from .errors import KINDS
from .findings import rank_errors
from .marks import make_marks
from .page import end_sentence, make_name, render
from .pictures import SIDE, Budget, encode_picture

MOST, OF_A_KIND, BEST = 30, 3, 6  # pictures; of them so many of each kind of error, and at most so many without one
MOST_CLASSES = 12  # the weakest, of each of which there is a picture


def build_gallery(found: DetectorResults, cfg: CfgNode, budget: Budget) -> tuple[Markup, list[str]]:
    """Builds the gallery of an evaluation.

    Args:
        found: with annotations
        cfg: of the run, for how images are read
        budget: what pictures may take

    Returns:
        the gallery, empty without a picture; and what can't be shown, in sentences
    """
    task = list(found.explanation["tasks"].values())[-1]
    figures, unread, problems = [], [], []
    for image in choose_images(task, found):
        try:
            figure = _draw_figure(image, found, cfg)
        except InputError as error:
            unread.append(str(error))
            continue
        if not budget.take(figure):
            problems.append(f"{len(figures)} pictures are shown: more would make this file too large to be sent.")
            break
        figures.append((_count_errors(image), figure))
    if unread:
        problems.append(end_sentence(f"{len(unread)} pictures are missing, the first because {unread[0]}"))
    if not figures:
        return Markup(), problems
    kinds = [kind for kind in KINDS.values() if task["errors"][kind.name]["count"]]
    gallery = render(
        "gallery.html",
        name=make_name("gallery"),
        figures=[figure for _, figure in sorted(figures, key=lambda pair: -pair[0])],
        kinds=kinds,
        classes=[category["name"] for category in found.truth["categories"]],
        has_masks="segm" in found.explanation["tasks"],
    )
    return gallery, problems


def _draw_figure(image: Mapping, found: DetectorResults, cfg: CfgNode) -> Markup:
    """Draws an image, an entry of "images" of a task, with its marks."""
    entry = found.images[image["id"]]
    path = os.path.join(found.image_root, entry["file_name"])
    pixels = read_shrunk(path, cfg.INPUT.FORMAT, Decoding.from_config(cfg), SIDE)
    size = entry["height"], entry["width"]
    return render(
        "figure.html",
        name=os.path.basename(entry["file_name"]),
        text=describe_image(image),
        size=size,
        picture=encode_picture(pixels),
        marks=make_marks(image, found.annotated.get(image["id"], ()), found.truth, found.results, size),
    )


def choose_images(task: Mapping, found: DetectorResults) -> list[Mapping]:
    """Chooses images: of each kind of error, of the weakest classes, of all the worst, and some without an error."""
    images = task["images"]
    flawless = [image for image in images if image["objects"] and not _count_errors(image)]
    best = sorted(flawless, key=lambda image: -image["correct"])[:BEST]
    worst = sorted(filter(_count_errors, images), key=lambda image: -_count_errors(image))
    candidates: list[Mapping] = []
    for kind in rank_errors(task):
        of_kind = [image for image in worst if image["errors"].get(kind)]
        candidates += sorted(of_kind, key=lambda image: -image["errors"][kind])[:OF_A_KIND]
    weakest = sorted(task["classes"], key=lambda entry: math.inf if entry["AP"] is None else entry["AP"])
    for category in weakest[:MOST_CLASSES]:
        candidates += itertools.islice((x for x in worst if _has_errors_in(x, category["id"], found)), 1)
    chosen = {image["id"]: image for image in candidates + worst}
    return [*list(chosen.values())[: MOST - len(best)], *best]


def _has_errors_in(image: Mapping, category: object, found: DetectorResults) -> bool:
    return any(found.truth["annotations"][index]["category_id"] == category for index in image["missed"]) or any(
        found.results[verdict["result"]]["category_id"] == category
        for verdict in image["verdicts"]
        if verdict["verdict"] in KINDS
    )


def _count_errors(image: Mapping) -> int:
    return sum(image["errors"].get(kind, 0) for kind in KINDS)


def describe_image(image: Mapping) -> str:
    """Describes in a few words what was found in an image."""
    errors = [f"{count} {KINDS[kind].title}" for kind in KINDS if (count := image["errors"].get(kind, 0))]
    return f"{image['correct']} of {image['objects']} objects found" + (f"; {', '.join(errors)}" if errors else "")
