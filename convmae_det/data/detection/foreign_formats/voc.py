"""Pascal VOC's format: an XML file for each image. It counts pixels from 1."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from ....errors import InputError
from ...image import DEFAULT, Decoding
from .conversion import Labelled, Source, build_content, check_folders, list_images, name_classes

CVAT = "CVAT's own XML: export it from CVAT as COCO 1.0, which needs no conversion, or as Pascal VOC"


def convert_voc(
    images: Path,
    labels: Path,
    categories: Sequence[str] | None = None,
    chosen: Path | None = None,
    *,
    decoding: Decoding = DEFAULT,
) -> dict:
    """Converts a data set of Pascal VOC's: an object becomes its box and its polygons, if it has any.

    Args:
        images: folder of the images
        labels: folder of the .xml files
        categories: names in the order of their ids; None: those that occur, in alphabetical order
        chosen: as for :func:`convert_yolo`
        decoding: as for :func:`convert_yolo`

    Returns:
        As :func:`convert_yolo`.

    Raises:
        InputError: as :func:`convert_yolo`.
    """
    source = Source(images, labels, ".xml", "--categories", chosen, decoding)
    check_folders(source)
    files = {path: _read_labels(path) for path in sorted(labels.glob("*.xml"))}
    paths = list_images(source)
    objects = {path: files.get(source.find_labels(path), []) for path in paths}
    classes = name_classes(categories, chain.from_iterable(objects.values()))
    return build_content(source, paths, classes, lambda path, size: objects[path])


def _read_labels(path: Path) -> list[Labelled]:
    try:
        root = ElementTree.parse(path).getroot()
        if root.tag == "annotations" and root.find("image") is not None:
            raise InputError(f"{path} is {CVAT}")
        if root.tag != "annotation":
            raise ValueError(f"its root is {root.tag}, not annotation")
        return [_parse_object(element) for element in root.iterfind("object")]
    except InputError:
        raise
    except (ValueError, OSError, ElementTree.ParseError) as error:
        raise InputError(f"{path} is not an annotation file of Pascal VOC ({error}): correct it") from error


def _parse_object(element: ElementTree.Element) -> Labelled:
    name = element.findtext("name")
    if not name:
        raise ValueError("an object has no name")
    sides = [
        element.findtext(f"bndbox/{side}", f"an object has no {side}") for side in ["xmin", "ymin", "xmax", "ymax"]
    ]
    box = np.sort(np.reshape([float(side) for side in sides], (2, 2)), axis=0) - [[1, 1], [0, 0]]  # the last included
    polygons = [[float(number.text or "") for number in polygon] for polygon in element.iterfind("polygon")]
    if any(len(polygon) % 2 for polygon in polygons):
        raise ValueError("a polygon has an odd number of coordinates, but x and y come in pairs")
    if not np.isfinite([*box.flat, *chain(*polygons)]).all():
        raise ValueError("a coordinate is not finite")
    return Labelled(name, box.flatten(), [np.reshape(polygon, (-1, 2)) - 1 for polygon in polygons])
