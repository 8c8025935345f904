"""The sections on an evaluation of a detector: what is wrong with it, in numbers, figures and pictures."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from detectron2.config import CfgNode
from markupsafe import Markup, escape

from ..evaluation.error_kinds import CORRECT, FALSE_NEGATIVES, FALSE_POSITIVES
from ..evaluation.text import OUTLINES, TASKS
from ..visualization.colours import class_colour
from .charts import Axis, Bar, Line, Stack, choose_most_confused, draw_bars, draw_columns, draw_lines, draw_matrix
from .detector_results import DetectorResults
from .errors import KINDS
from .findings import find_faults, rank_errors
from .gallery import build_gallery
from .page import Section, join, render
from .pictures import Budget
from .tables import Cell, render_table, render_tiles

MOST_LINES, MOST_CONFUSED, FEW_CONFUSED = 40, 30, 12  # classes with a curve, in the matrix, in half the width
SIZES = (0, 8, 16, 32, 64, 128, 256, math.inf)  # pixels: square root of an object's area


def build_detector_sections(
    found: DetectorResults, cfg: CfgNode, budget: Budget, trends: Sequence[str] = ()
) -> Iterator[Section]:
    """Builds the sections on an evaluation, as far as there is something to say.

    Args:
        found: the evaluation
        cfg: of the run
        budget: what pictures may take
        trends: sentences on the training, which belong to what is wrong
    """
    where = f" on {found.name}"
    if not found.explanation:
        yield Section(f"Detector{where}", render("problems.html", problems=[found.problem]))
        return
    tasks = found.explanation["tasks"]
    problems = [found.problem] if found.problem else []
    gallery = Markup()
    if found.truth:
        gallery, unshown = build_gallery(found, cfg, budget)
        problems += unshown
    yield _build_summary(found, where, [*find_faults(found.explanation), *trends], problems)
    yield Section(
        "Kinds of errors",
        Markup('<div class="pair">{}</div>').format(join(_draw_errors(*task) for task in tasks.items())),
        "Each error is of one kind. A bar says by how many points AP50 would rise if all errors of the kind were "
        "mended and all else stayed (TIDE, arXiv 2008.08115). It is of all detections; the number after a letter "
        "counts only those from the best score threshold of their class on, as the pictures do.",
    )
    if gallery:
        yield Section(
            "Images with their errors",
            gallery,
            "Those with the most errors first, some without any last. A colour and a letter say what is wrong; press "
            "a picture to enlarge it, then go on with the arrow keys.",
        )
    yield _build_classes(tasks)
    yield Section(
        "Precision and recall",
        Markup('<div class="charts">{}</div>').format(
            join(_draw_precision(task, numbers) for task, numbers in tasks.items())
        ),
        "How many of the detections are right (precision) when a lower and lower score threshold lets more of the "
        "objects be found (recall), at an overlap of 50 %. The better, the further a line stays at the top.",
        is_narrow=len(tasks) == 1,
    )
    task, numbers = list(tasks.items())[-1]
    yield _build_confusion(numbers["confusion"])
    yield Section(
        "What scores mean",
        Markup('<div class="charts">{}</div>').format(_draw_calibration(numbers["calibration"])),
        "If scores were probabilities, of the detections with a score of 70 % as many would be right, and the points "
        "would lie on the dashed line. Below it the detector is too sure of itself, above it too careful.",
        is_narrow=True,
    )
    if found.truth:
        yield _build_sizes(found, task, numbers)


def _build_summary(found: DetectorResults, where: str, faults: Sequence[str], problems: Sequence[str]) -> Section:
    tiles: dict[str, object] = {}
    for task, numbers in found.explanation["tasks"].items():
        tiles |= {f"{TASKS[task]} AP": numbers["metrics"]["AP"], f"{TASKS[task]} AP50": numbers["metrics"]["AP50"]}
    counts = {"images": found.explanation["images"], "objects": found.explanation["objects"]}
    body = render_tiles(tiles | counts) + render("findings.html", findings=faults)
    return Section(
        f"What is wrong with the detector{where}",
        body + render("problems.html", problems=problems),
        "AP, average precision in percent, is COCO's measure: 100 if every object is found with its exact outline and "
        "nothing else is. AP50 is content with an overlap of 50 %.",
    )


def _draw_errors(task: str, numbers: Mapping) -> Markup:
    bars = []
    for name in rank_errors(numbers):
        kind, error = KINDS[name], numbers["errors"][name]
        detail = f"{kind.letter} – {error['count']:,}: {kind.meaning}"
        bars.append(Bar(kind.title, error["gain"] or 0.0, kind.colour, detail))
    parts = [(FALSE_POSITIVES, "all that is found wrongly"), (FALSE_NEGATIVES, "all that isn't found")]
    sums = ", ".join(f"{numbers['errors'][name]['gain'] or 0:.1f} without {what}" for name, what in parts)
    return draw_bars(bars, f"AP50 of {OUTLINES[task]}: points to gain by mending each kind. Together: {sums}.")


def _build_classes(tasks: Mapping) -> Section:
    task = list(tasks)[-1]
    others = {entry["id"]: entry["AP"] for entry in tasks["bbox"]["classes"]} if task != "bbox" else {}
    headers = ["class", "objects", f"{TASKS[task]} AP", "AP50", "small", "medium", "large", "AR"]
    headers += ["threshold", "precision", "recall", "F1"]
    rows = []
    for index, entry in enumerate(tasks[task]["classes"]):
        row: list[object] = [Cell(entry["name"], entry["name"], colour=find_colour(index)), entry["objects"]]
        row += [entry[key] for key in ("AP", "AP50", "APs", "APm", "APl", "AR")]
        row += [_round_threshold(entry["threshold"]), *(entry[key] for key in ("precision", "recall", "F1"))]
        if others:
            row.insert(2, others[entry["id"]])
        rows.append(row)
    if others:
        headers.insert(2, "box AP")
    return Section(
        "Classes",
        render_table(headers, rows),
        "Press a title to sort, for example AP for the worst first. Precision, recall and F1, their balance, are "
        "those at the threshold where F1 is highest; AR is the recall over all overlaps; small is below 32×32 pixels, "
        "large from 96×96.",
    )


def find_colour(index: int) -> str:
    """Finds the colour of a class, which it has in all pictures, as CSS: somewhat darker on white, lighter on black."""
    return "color-mix(in srgb, rgb({},{},{}) 85%, var(--ink))".format(*class_colour(index))


def _round_threshold(value: float | None) -> Cell | None:
    return None if value is None else Cell(f"{value:.2f}", value, is_number=True)


def _draw_precision(task: str, numbers: Mapping) -> Markup:
    curves, classes = numbers["curves"], numbers["classes"]
    chosen = sorted(range(len(classes)), key=lambda index: -classes[index]["objects"])[:MOST_LINES]
    lines = [
        Line(name, list(zip(curves["recall"], curve, strict=True)), find_colour(index))
        for index in sorted(chosen)
        if (curve := curves["precision"].get(name := classes[index]["name"]))
    ]
    if len(lines) > 1:
        points = list(zip(curves["recall"], curves["overall"]["precision"], strict=True))
        lines.append(Line("all classes", points, "var(--ink)", "strong"))
    title = OUTLINES[task].capitalize()
    axes = Axis("recall, %", 0, 100), Axis("precision, %", 0, 100)
    return draw_lines(title, lines, *axes, chosen=len(lines) > 2, legend=True)


def _build_confusion(confusion: Mapping) -> Section:
    labels, counts = list(confusion["labels"]), np.array(confusion["matrix"])
    note = ""
    if len(labels) > MOST_CONFUSED:
        kept = choose_most_confused(counts, MOST_CONFUSED, always=[len(labels) - 1])  # background stays
        counts, labels = counts[np.ix_(kept, kept)], [labels[index] for index in kept]
        note = f" Of {len(confusion['labels']) - 1} classes, those with the most errors."
    names = [*labels[:-1], "nothing"]
    title = f"Rows: what is annotated. Columns: what was found there. Percent of a row.{note}"
    return Section(
        "Which classes are confused",
        draw_matrix(title, names, counts.tolist()) + _list_confusions(confusion),
        "Each row says what became of the annotated objects of a class: found as such (green), as another class, or as "
        "nothing, that is, missed. The last row says what was found where nothing is annotated.",
        is_narrow=len(labels) <= FEW_CONFUSED,
    )


def _list_confusions(confusion: Mapping) -> Markup:
    """Lists the pairs of classes that are confused most often."""
    labels, counts = confusion["labels"], np.array(confusion["matrix"])[:-1, :-1].copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:5]
    pairs = [(*divmod(int(place), counts.shape[1]), int(counts.flat[place])) for place in order if counts.flat[place]]
    if not pairs:
        return Markup()
    texts = (escape(f"{labels[i]} found as {labels[j]} ({count:,})") for i, j, count in pairs)
    return Markup('<p class="note">Most often: {}.</p>').format(Markup("; ").join(texts))


def _draw_calibration(calibration: Mapping) -> Markup:
    bins = [entry for entry in calibration["bins"] if entry["count"]]
    ends = Line("as it should be", [(0, 0), (100, 100)], "var(--faint)", "dashed")
    points = [(100 * entry["score"], entry["precision"]) for entry in bins]
    error = calibration["error"]
    note = "" if error is None else f"off by {error:.1f} % on average"
    axes = Axis("score, %", 0, 100), Axis("right, %", 0, 100)
    return draw_lines("Scores", [ends, Line("as it is", points, dots=True)], *axes, note=note)


def _build_sizes(found: DetectorResults, task: str, numbers: Mapping) -> Section:
    verdicts = (verdict for image in numbers["images"] for verdict in image["verdicts"])
    right = {verdict["truth"] for verdict in verdicts if verdict["verdict"] == CORRECT}
    objects = [
        (math.sqrt(annotation["area"]), index not in right)
        for index, annotation in enumerate(found.truth["annotations"])
        if not annotation.get("iscrowd", 0)
    ]
    places = np.digitize([side for side, _ in objects], SIZES[1:-1])
    kept = range(int(places.min(initial=len(SIZES))), int(places.max(initial=-1)) + 1)
    names = [_describe_range(SIZES[place], SIZES[place + 1]) for place in kept]
    stacks = [
        Stack(
            name,
            [sum(p == place and m == is_missed for p, (_, m) in zip(places, objects, strict=True)) for place in kept],
            colour,
        )
        for name, is_missed, colour in (("found", False, "var(--good)"), ("not found", True, "var(--missed)"))
    ]
    chart = draw_columns("Objects by size", names, stacks, "square root of the area, pixels")
    shares = [
        Bar(
            name, 100 * hit / (hit + miss), "var(--good)", f"{hit} of {hit + miss}", f"{100 * hit / (hit + miss):.0f} %"
        )
        for name, hit, miss in zip(names, stacks[0].values, stacks[1].values, strict=True)
        if hit + miss
    ]
    return Section(
        "Sizes of objects",
        Markup('<div class="pair">{}{}</div>').format(chart, draw_bars(shares, "Share of the objects that is found")),
        f"How large the annotated objects are, and how many of each size the detector finds ({OUTLINES[task]} overlap "
        "by 50 % or more, in the annotated class).",
        is_narrow=True,
    )


def _describe_range(low: float, high: float) -> str:
    return f"≥{low:g}" if math.isinf(high) else f"{low:g}–{high:g}" if low else f"<{high:g}"
