"""What an evaluation has come to, as text: tables of metrics, classes and errors."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from ..errors import make_printable
from .error_kinds import FALSE_NEGATIVES, FALSE_POSITIVES, MISSED
from .explanation import list_scores
from .metrics import MEASURES, format_metrics

TASKS = {"bbox": "box", "segm": "mask"}  # what COCO's tasks are about, as in "box AP"
OUTLINES = {"bbox": "boxes", "segm": "masks"}  # the same, as in "AP of boxes"
EXPLAINED = {
    "class": "on an object of another class",
    "localisation": "on an object of its class, but overlapping too little (IoU 0.1 to 0.5)",
    "both": "overlapping an object of another class too little",
    "duplicate": "of an object that a higher score has found",
    "background": "where there is no object",
    MISSED: "objects that no detection is about",
    FALSE_POSITIVES: "all detections that are wrong",
    FALSE_NEGATIVES: "all objects that are not found",
}


def format_explanation(explanation: Mapping) -> str:
    """Formats the explanation of :func:`~.explanation.explain_results`."""
    counts = f"{explanation['images']:,} images, {explanation['objects']:,} objects, "
    parts = [counts + f"{explanation['detections']:,} detections"]
    for task, scores in list_scores(explanation).items():
        described = explanation["tasks"][task]
        parts += [
            OUTLINES[task].capitalize(),
            format_metrics(scores),
            _format_classes(described),
            _format_errors(described),
        ]
        parts += _format_calibration(described)
    return "\n\n".join(parts)


def format_last_lines(explanation: Mapping) -> str:
    """Formats the AP of each task, with three decimals, after that at more detections where these are counted."""
    lines = []
    for task, scores in list_scores(explanation).items():
        lines += [f"{TASKS[task]} {name} {value:.3f}" for name, value in scores.items() if name.startswith("AP@")]
    lines += [f"{TASKS[task]} AP {scores['AP']:.3f}" for task, scores in list_scores(explanation).items()]
    return "\n".join(lines)


def _format_classes(described: Mapping) -> str:
    columns = ["objects", "detections", "AP", "AP50", "AR", "threshold", "precision", "recall", "F1"]
    rows = [
        [_format_name(entry["name"]), *(_format(entry[name], name) for name in columns)]
        for entry in described["classes"]
    ]
    total = {name: sum(entry[name] for entry in described["classes"]) for name in columns[:2]}
    scores = {name: described["metrics"][name] for name in MEASURES} | described["overall"] | total
    rows.append(["all, one threshold", *(_format(scores[name], name) for name in columns)])
    return _tabulate(rows, ["class", *columns])


def _format_errors(described: Mapping) -> str:
    errors = described["errors"]
    rows = [
        [f"{kind.replace('_', ' ')}: {text}", _format(errors[kind]["count"]), _format(errors[kind]["gain"])]
        for kind, text in EXPLAINED.items()
    ]
    return _tabulate(rows, ["error", "at the thresholds", "AP50 to gain"])


def _format_calibration(described: Mapping) -> list[str]:
    error = described["calibration"]["error"]  # None without detections
    sentence = f"Calibration error: scores and precision differ by {_format(error)} % on average"
    return [] if error is None else [sentence]


def _format_name(name: str) -> str:
    return make_printable(name).replace("\n", "\\n")


def _tabulate(rows: list, headers: list[str]) -> str:
    return tabulate(rows, headers, "pipe", disable_numparse=True, colalign=["left"] + ["right"] * (len(headers) - 1))


def _format(value: Any, name: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if name in ("threshold", "AP") else f"{value:.1f}"
