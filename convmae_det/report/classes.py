"""What reports on classifiers and on segmentors have in common: classes that are confused, and pictures of mistakes."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from ..errors import InputError
from .charts import choose_most_confused, draw_matrix
from .page import Section, join, render
from .pictures import Budget

MOST_CONFUSED = 30  # classes in the matrix


class Confusion(NamedTuple):
    """The two classes that are confused most, how often, and the number of all mistakes."""

    one: str
    other: str
    count: int
    errors: int


def find_confusion(summary: Mapping) -> Confusion | None:
    """Finds the classes that are confused most, in either direction; None without mistakes."""
    counts = np.array(summary["confusion"])
    np.fill_diagonal(counts, 0)
    if not (errors := int(counts.sum())):
        return None
    i, j = sorted(divmod(int((counts + counts.T).argmax()), len(counts)))
    names = summary["classes"]
    return Confusion(names[i]["name"], names[j]["name"], int(counts[i, j] + counts[j, i]), errors)


def build_matrix(summary: Mapping, things: str) -> Section:
    """Builds the section on which classes are confused; `things`, "images" or "pixels", have them."""
    names, counts = [entry["name"] for entry in summary["classes"]], np.array(summary["confusion"])
    kept = choose_most_confused(counts, MOST_CONFUSED) if len(names) > MOST_CONFUSED else range(len(names))
    title = f"Rows: the class of the {things}. Columns: what they were taken for. Percent of a row."
    return Section(
        "Which classes are confused",
        draw_matrix(title, [names[index] for index in kept], counts[np.ix_(kept, kept)].tolist()),
        f"Each row says what the {things} of a class were taken for; what lies on the green diagonal is right."
        + f" Of {len(names)} classes, those with the most mistakes." * (len(kept) < len(names)),
    )


def build_gallery(
    title: str, explanation: str, figures: Iterable[Markup | InputError], budget: Budget, small: bool = False
) -> Section:
    """Builds the section with pictures of mistakes, as many as the budget lets in.

    Args:
        title: of the section
        explanation: below it
        figures: of each mistake the figure, or why it can't be shown, of which the last is said
        budget: what pictures may take
        small: whether several stand in a row
    """
    kept, problem = [], ""
    for figure in figures:
        if isinstance(figure, InputError):
            problem = f"Some images can't be shown: {figure}"
        elif budget.take(figure):
            kept.append(figure)
    body = Markup('<div class="gallery{}">{}</div>').format(" small" * small, join(kept)) if kept else Markup()
    return Section(title, body + render("problems.html", problems=[problem] if problem else []), explanation)
