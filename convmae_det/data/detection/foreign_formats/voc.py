"""Pascal VOC's format: an XML file for each image. It counts pixels from 1."""

import functools
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from ....errors import InputError
from ...image import read_size
from .account import UNLABELLED, Account
from .objects import DataSet, Labelled, LabelledImage, make_box, make_polygon
from .reading import locate, read_xml, report_file
from .recognition import describe_file
from .source import (
    CROWD,
    OBJECT,
    SKIP,
    Source,
    check_folder,
    check_stems,
    count_orphans,
    find_beside,
    list_files,
    list_images,
)

FORM = "an annotation file of Pascal VOC"
ENDING = ".xml"
SIDES = ("xmin", "ymin", "xmax", "ymax")
FROM_ZERO = (
    "boxes begin at pixel 0, but Pascal VOC counts from 1: if this tool counts from 0, all are shifted by a pixel"
)


def read_voc(source: Source, account: Account) -> DataSet:
    """Reads a data set of Pascal VOC's: an object becomes its box and its polygons, if it has any.

    Args:
        source: `annotations` is the folder of label files, or that in which the folders Annotations and JPEGImages lie
        account: of difficult objects, parts of objects, and label files without an image

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    labels = source.annotations
    check_folder(labels)
    labels = labels / "Annotations" if (labels / "Annotations").is_dir() else labels
    beside = labels.parent / "JPEGImages"
    root = source.images or (beside if labels.name == "Annotations" and beside.is_dir() else labels)
    check_folder(root)
    files = list_files(labels, [ENDING])
    others = [path for path in sorted(labels.iterdir()) if path.suffix.lower() in (".txt", ".json")]
    if others and not files:
        raise InputError(f"{labels} holds no {ENDING} files; {others[0].name} is {describe_file(others[0])}")
    paths = list_images(root)
    check_stems(paths, root, ENDING)
    images = [_describe_image(path, find_beside(path, root, labels, ENDING), source, account) for path in paths]
    count_orphans(files, images, account)
    return DataSet(images, root, FORM)


def _describe_image(path: Path, labels: Path, source: Source, account: Account) -> LabelledImage:
    if not labels.exists():
        account.note(UNLABELLED, path.name)
        return LabelledImage(path, labels, lambda width, height: [])
    with report_file(labels, FORM):
        root = read_xml(labels)
        if root.tag != "annotation":
            raise ValueError(f"its root is {root.tag}, not annotation, so that it is {describe_file(labels)}")
    return LabelledImage(path, labels, functools.partial(_list_objects, root, path, labels, source, account))


def _list_objects(
    root: Element, path: Path, labels: Path, source: Source, account: Account, width: int, height: int
) -> list[Labelled]:
    difficult = source.difficult
    stated = tuple(int(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    if all(stated) and stated != (width, height):
        stored = read_size(path, source.decoding._replace(ignore_exif=True))
        if stored == stated[::-1] and stored != (height, width):
            raise InputError(
                f"{labels} labels {path.name} as it is stored, {stated[0]}×{stated[1]} pixels, but its EXIF data turn "
                f"it to {width}×{height}: use --ignore-exif"
            )
        account.note("label files state another size than their image has, which many do wrongly", labels.name)
    objects = []
    for number, element in enumerate(root.iterfind("object"), 1):
        with locate(place := f"object {number}"):
            found = _parse_object(element, place)
        account.note(FROM_ZERO, labels.name, bool((found.box[:2] < 0).any()))
        account.leave_out("parts of objects", labels.name, len(element.findall("part")))
        if (element.findtext("difficult") or "0").strip() in ("1", "true", "True"):
            if difficult == SKIP:
                account.leave_out("difficult objects (--difficult)", labels.name)
                continue
            if difficult != OBJECT:
                account.note(
                    "difficult objects became crowds, which don't count in evaluation (--difficult)", labels.name
                )
            found = found._replace(crowd=difficult == CROWD)
        objects.append(found)
    return objects


def _parse_object(element: Element, place: str) -> Labelled:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("it has no name")
    sides = {side: element.findtext(f"bndbox/{side}") for side in SIDES}
    for side, number in sides.items():
        if not (number or "").strip():
            raise ValueError(f"it has no {side} in a bndbox")
    x0, y0, x1, y1 = make_box(name, [float(number or "") for number in sides.values()]).box
    found = make_box(name, [x0 - 1, y0 - 1, x1, y1], place)  # the last pixel is included
    polygons = [[float(number.text or "") for number in polygon] for polygon in element.iterfind("polygon")]
    if any(len(polygon) % 2 for polygon in polygons):
        raise ValueError("a polygon has an odd number of coordinates, but x and y come in pairs")
    outlines = [make_polygon(name, np.reshape(polygon, (-1, 2)) - 1).polygons[0] for polygon in polygons]
    return found._replace(polygons=outlines)
