"""The gallery of a detector: some of its worst and best images, each error marked."""

import os
from collections.abc import Iterator, Mapping, Sequence

from detectron2.config import CfgNode
from markupsafe import Markup

from ..data.image import Decoding, read_visible
from ..errors import InputError
from .detector_results import DetectorResults
from .errors import KINDS
from .findings import rank_errors
from .marks import make_marks
from .page import make_name, render
from .pictures import Budget, encode_picture

MOST, OF_A_KIND, BEST = 30, 3, 6  # pictures; of them at least so many of a kind of error, and without one
MOST_CLASSES = 20  # of which a picture is looked for


def build_gallery(found: DetectorResults, cfg: CfgNode, budget: Budget) -> tuple[Markup, list[str]]:
    """Builds the gallery of an evaluation.

    Args:
        found: with annotations
        cfg: of the run, for how images are read
        budget: what pictures may take

    Returns:
        the gallery, empty without a picture; and what can't be shown, in sentences
    """
    images = {image["id"]: image for image in found.truth["images"]}
    annotated: dict[object, list[int]] = {}
    for index, annotation in enumerate(found.truth["annotations"]):
        if not annotation.get("iscrowd", 0):
            annotated.setdefault(annotation["image_id"], []).append(index)
    task = list(found.explanation["tasks"].values())[-1]
    figures, problems = [], []
    for image in choose_images(task, found):
        entry = images[image["id"]]
        path, size = os.path.join(found.image_root, entry["file_name"]), (entry["height"], entry["width"])
        try:
            picture = encode_picture(read_visible(path, cfg.INPUT.FORMAT, Decoding.from_config(cfg)))
        except InputError as error:
            problems.append(str(error))
            continue
        marks = make_marks(image, annotated.get(image["id"], ()), found.truth, found.results, size)
        name = os.path.basename(entry["file_name"])
        text = describe_image(image)
        figure = render("figure.html", name=name, text=text, size=size, picture=picture, marks=marks)
        if not budget.take(len(figure)):
            problems.append(f"{len(figures)} pictures are shown: more would make this file too large to be sent.")
            break
        figures.append((_count_errors(image), figure))
    figures = [figure for _, figure in sorted(figures, key=lambda pair: -pair[0])]
    unread = len([problem for problem in problems if not problem[0].isdigit()])
    if unread > 1:
        problems = [f"{unread} images can't be shown, the first because {problems[0]}"]
    if not figures:
        return Markup(), problems
    kinds = [kind for kind in KINDS.values() if task["errors"][kind.name]["count"]]
    names = [category["name"] for category in found.truth["categories"]]
    has_masks = "segm" in found.explanation["tasks"]
    gallery = make_name("gallery")
    return render(
        "gallery.html", name=gallery, figures=figures, kinds=kinds, classes=names, has_masks=has_masks
    ), problems


def choose_images(task: Mapping, found: DetectorResults) -> list[Mapping]:
    """Chooses images: of each kind of error, of the worst classes, of all the worst, and of the best."""
    images = task["images"]
    chosen: dict = {}

    def take(candidates: Iterator[Mapping] | Sequence[Mapping], most: int) -> None:
        for image, _ in zip(candidates, range(most), strict=False):
            chosen.setdefault(image["id"], image)

    flawless = [image for image in images if image["objects"] and not _count_errors(image)]
    best = sorted(flawless, key=lambda image: -image["correct"])[:BEST]
    for kind in rank_errors(task):
        of_kind = [image for image in images if image["errors"].get(kind)]
        take(sorted(of_kind, key=lambda image: -image["errors"][kind]), OF_A_KIND)
    for category in sorted(task["classes"], key=lambda entry: entry["AP"] if entry["AP"] is not None else 101):
        if len(chosen) >= MOST_CLASSES:
            break
        take([image for image in images if _has_errors_in(image, category["id"], found)], 1)
    worst = sorted((image for image in images if _count_errors(image)), key=lambda image: -_count_errors(image))
    take(worst, MOST - min(BEST, len(best)) - len(chosen) + OF_A_KIND)
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
