"""What a check finds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Severity(IntEnum):
    """How much a finding matters."""

    NOTE = 0  # worth knowing
    WARNING = 1  # trains, but learns or measures something else than is meant
    ERROR = 2  # training refuses it, or what is measured is worthless


class Example(NamedTuple):
    """Where something was found.

    Attributes:
        files: paths of the images that it concerns; several are the same, or nearly
        detail: what is to be seen there
        annotation: the id of the object
        boxes: where in the first file, each x y width height in pixels
    """

    files: tuple[str, ...] = ()
    detail: str = ""
    annotation: int | str | None = None
    boxes: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        severity: how much it matters
        problem: what is wrong and how often, a sentence without its full stop
        advice: what to do about it, likewise; empty if nothing is to be done
        count: how many images, objects, … have it
        examples: all places, or some
        check: the name of the check that found it
    """

    severity: Severity
    problem: str
    advice: str = ""
    count: int = 1
    examples: Sequence[Example] = ()
    check: str = ""


Findings = Iterator[Finding]
PLURALS = {"box": "boxes", "class": "classes", "entry": "entries"}  # of other nouns, with an s


def format_count(number: int, noun: str, total: int | None = None) -> str:
    """Formats "1 image", "1,200 images" or, with a total, "3 of 1,200 images"."""
    of = f"{number:,} of {total:,}" if total is not None else f"{number:,}"
    one = (number if total is None else total) == 1
    return f"{of} {noun if one else PLURALS.get(noun, f'{noun}s')}"


def is_or_are(number: int) -> str:
    return "is" if number == 1 else "are"


def has_or_have(number: int) -> str:
    return "has" if number == 1 else "have"


def join_names(names: Sequence[str], most: int = 8) -> str:
    """Joins names for a sentence, the first `most` of them."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
