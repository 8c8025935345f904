"""Tables of images and labels: CSV files with the columns "path" and "label"."""

import csv
import io
import json
import logging
import os
from collections.abc import Sequence

from ...errors import InputError

logger = logging.getLogger(__name__)

COLUMNS = ("path", "label")


def read_label_table(path: str) -> tuple[list[str], list[str]]:
    """Reads a CSV file.

    Args:
        path: of the file, in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; its first line names the columns

    Returns:
        the paths of the images, of which those in the file are relative to its folder, and the label of each, text
        without spaces around it

    Raises:
        InputError: it can't be read, lacks a column, has no rows or one with an empty cell, names a file that doesn't
            exist, or one image with two labels.
    """
    folder, names, labels, known = os.path.dirname(path), [], [], {}
    rows = csv.DictReader(io.StringIO(_read_text(path), newline=""), skipinitialspace=True)
    try:
        _check_columns(path, rows.fieldnames)
        for row in rows:
            name, label = (str(row[column] or "").strip() for column in COLUMNS)
            place = f"{path}, line {rows.line_num},"
            if not name or not label:
                raise InputError(f"{place} lacks a {COLUMNS[bool(name)]}: complete or remove the line.")
            name = os.path.join(folder, name)
            if (earlier := known.setdefault(os.path.normpath(name), label)) != label:
                raise InputError(f"{place} has {name} as {label}, but an earlier line as {earlier}: remove one.")
            if not os.path.isfile(name):
                raise InputError(f"{place} names {name}, which is no file: paths are relative to the table's folder.")
            names.append(name)
            labels.append(label)
    except csv.Error as error:
        raise InputError(f"{path} is no CSV file (line {rows.line_num}: {error}): correct it.") from error
    if len(known) < len(names):
        logger.warning(f"{path} lists {len(names) - len(known):,} images more than once, each of which counts")
    if not names:
        raise InputError(f"{path} lists no images: give it a line for each.")
    return names, labels


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read()
        return content.decode(json.detect_encoding(content))
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): make it readable.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8 (byte {error.start + 1:,}): save it in UTF-8.") from error


def _check_columns(path: str, found: Sequence[str] | None) -> None:
    if missing := [column for column in COLUMNS if column not in (found or ())]:
        shown = ", ".join(map(repr, found or ())) or "nothing"
        raise InputError(f"{path} has no column {missing[0]}: its first line must be path,label; it holds {shown}.")
