"""Reading label files: whatever is wrong with one becomes a sentence that names it, and the place in it."""

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from ....errors import InputError

MISTAKES = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
MISTAKES += (ParseError, RecursionError, csv.Error)


@contextlib.contextmanager
def report_file(path: Path, form: str) -> Iterator[None]:
    """Makes an InputError that names the file of whatever its content causes.

    Args:
        path: the file
        form: what it must be: "an annotation file of LabelMe"
    """
    try:
        yield
    except InputError:
        raise
    except MISTAKES as error:
        raise InputError(f"{path} is not {form} ({_describe(error)}): correct or remove it") from error


@contextlib.contextmanager
def locate(place: str) -> Iterator[None]:
    """Makes a ValueError that names the place in the file of whatever its content causes."""
    try:
        yield
    except InputError:
        raise
    except MISTAKES as error:
        raise ValueError(f"{place}: {_describe(error)}") from error


def read_json(path: Path) -> Any:
    """Reads JSON, in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; within :func:`report_file`."""
    return json.loads(path.read_bytes())


def read_xml(path: Path) -> Element:
    """Reads the root of an XML file, whose entities are refused; within :func:`report_file`."""
    try:
        root = ElementTree.parse(path).getroot()
    except DefusedXmlException as error:
        raise ValueError("it defines entities, which aren't read") from error
    if root is None:
        raise ValueError("it is empty")
    return root


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a text file that hold something, without spaces around them; within :func:`report_file`."""
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _describe(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}"
    if isinstance(error, (TypeError, AttributeError, IndexError)):
        return f"something in it is of another kind: {error}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return " ".join(str(error).split()) or type(error).__name__
