"""Open Images' format: a CSV file with a box a line, relative to the image's size; classes are codes, as /m/01yrx."""

import csv
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from ....errors import InputError
from .account import Account
from .objects import DataSet, Labelled, LabelledImage, make_box
from .reading import locate, report_file
from .recognition import find_file
from .source import Source

FORM = "a CSV file of Open Images"
SIDES = ("XMin", "YMin", "XMax", "YMax")


def read_openimages(source: Source, account: Account) -> DataSet:
    """Reads boxes of Open Images' for the images that are there; boxes of groups become crowds.

    Args:
        source: `annotations` is the CSV file of boxes, or the folder that holds it; `names` that of the classes
        account: of boxes without an image, depictions, and groups

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    path = find_file(source.annotations, "openimages", "the CSV file of boxes")
    names = _read_descriptions(source.names) if source.names else {}
    folder = source.open_images(account)
    stems = {image.stem: image for image in folder.paths}
    boxes: dict[str, list[tuple[int, dict]]] = {}
    with report_file(path, FORM):
        for line, row in _read_rows(path):
            if row["ImageID"] in stems:
                boxes.setdefault(row["ImageID"], []).append((line, row))
            else:
                account.leave_out(f"boxes of images that are not in {folder.root}", row["ImageID"])
    if len(stems) < len(folder.paths):
        raise InputError(
            f"{folder.root} holds images of the same name in several folders: name one of these by --images"
        )
    empty = [image for stem, image in stems.items() if stem not in boxes]
    account.note("images without a box are taken as images without objects", empty[0].name if empty else "", len(empty))
    images = [
        LabelledImage(image, path, functools.partial(_list_objects, boxes.get(stem, []), names, source.names, account))
        for stem, image in stems.items()
    ]
    return DataSet(images, folder.root, FORM)


def _read_rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Reads the rows, each with the number of its line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        wanted = {"ImageID", "LabelName", *SIDES}
        if missing := sorted(wanted - set(reader.fieldnames or ())):
            raise ValueError(f"it has no column {missing[0]}")
        yield from ((reader.line_num, row) for row in reader)


def _read_descriptions(path: Path) -> dict[str, str]:
    """Reads the names of classes by their codes.

    Raises:
        InputError: the file can't be read, or is no such list.
    """
    with report_file(path, "a CSV file of codes and names of classes"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
        if not rows or any(len(row) != 2 for row in rows):
            raise ValueError("a line is not a code, a comma and a name")
    return dict(rows)


def _list_objects(
    rows: Sequence[tuple[int, dict]],
    names: dict[str, str],
    named_in: Path | None,
    account: Account,
    width: int,
    height: int,
) -> list[Labelled]:
    objects = []
    for line, row in rows:
        with locate(place := f"line {line}"):
            code = row["LabelName"]
            if names and code not in names:
                raise ValueError(f"its class {code} is not named in {named_in}")
            x0, y0, x1, y1 = (float(row[side]) for side in SIDES)
            found = make_box(names.get(code, code), [x0 * width, y0 * height, x1 * width, y1 * height], place)
        is_group = row.get("IsGroupOf") == "1"
        account.note("boxes of groups became crowds, which don't count in evaluation", place, is_group)
        account.note("boxes of depictions, such as drawings, became objects", place, row.get("IsDepiction") == "1")
        objects.append(found._replace(crowd=is_group))
    return objects
