"""A page of chapters and sections, as one HTML file that needs nothing else and fetches nothing.

All text is escaped; what is markup already is a `markupsafe.Markup`. The browser is told by the page itself to load
nothing from anywhere, and to run the one script that is in it (its hash is named).
"""

import base64
import functools
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..errors import InputError
from ..files import atomic_write

REPORT = "report.html"  # what the page on a run is called, in its folder
MARK = '<meta name="generator" content="convmae-det '  # what the pages that we write have in their heads
HEAD = 4096  # bytes of a file, among which the mark stands
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Section:
    """A part of a chapter: what it shows, a sentence that explains it, and its content."""

    title: str
    body: Markup
    explanation: str = ""
    is_narrow: bool = False  # whether two of the kind fit beside each other on a wide screen


@dataclass(frozen=True)
class Chapter:
    """What there is to say of one thing, such as a run or a data set."""

    title: str
    sections: Sequence[Section]
    subtitle: str = ""


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("convmae_det.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> Markup:
    """Fills a file of templates/ with values; all that is not `Markup` is escaped."""
    return Markup(_environment().get_template(template).render(**values))


def join(parts: Iterable[Markup]) -> Markup:
    """Joins pieces of markup."""
    return Markup("").join(parts)


def render_page(title: str, chapters: Sequence[Chapter]) -> str:
    """Renders a page as HTML, with a table of contents.

    Args:
        title: at its top, and of its tab
        chapters: at least one
    """
    style, script = (_read_template(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    numbered = [
        (chapter, [(f"{place}-{number}", section) for number, section in enumerate(chapter.sections, start=1)])
        for place, chapter in enumerate(chapters, start=1)
    ]
    return render(
        "page.html",
        title=title,
        chapters=numbered,
        style=Markup(style),
        script=Markup(script),
        digest=digest,
        version=__version__,
    )


def _read_template(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def check_page_file(path: str | Path, option: str = "--output") -> None:
    """Checks, before long work, that no file but a page of ours would be replaced.

    Args:
        path: of the page to come
        option: by which users name it

    Raises:
        InputError: it is a folder, or a file that holds something else.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it by {option}, such as {path / 'page.html'}")
    if path.exists() and not is_page(path):
        raise InputError(f"{path} is no page of convmae-det and would be overwritten: give another name by {option}")


def save_page(html: str, path: str | Path, option: str = "--output") -> None:
    """Writes a page whole or not at all; only a page of ours is replaced.

    Args:
        html: from :func:`render_page`
        path: of the file
        option: as for :func:`check_page_file`

    Raises:
        InputError: the file can't be written, or holds something else.
    """
    check_page_file(path, option)
    with atomic_write(path) as file:
        file.write(html.encode())


def is_page(path: str | Path) -> bool:
    """Whether a file is a page that :func:`save_page` has written."""
    try:
        with open(path, "rb") as file:
            return MARK.encode() in file.read(HEAD)
    except OSError:
        return False


def end_sentence(text: str) -> str:
    """Ends a sentence that may have its full stop already."""
    return f"{text.rstrip('.')}."


def make_name(kind: str) -> str:
    """Makes a name for an element, unlike all others of a page."""
    return f"{kind}-{next(_numbers)}"
