"""Converts annotations in YOLO's and Pascal VOC's formats to the content of an annotation file in COCO's format.

The library supervision reads them, but outlines are taken from the files directly, not from masks of pixels. The images
are not moved.
"""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from ...errors import InputError
from ..image import read_size

TOLERANCE = 0.02  # of the image's sides: a box that goes further beyond them is for another image, or not relative

Outlines = Callable[[Path, tuple[int, int]], list[list[np.ndarray]]]  # label file, (width, height) → polygons by object


class Source(NamedTuple):
    """The files of a data set."""

    images: Path  # folder
    labels: Path  # folder
    ending: str  # of label files
    chosen: Path | None  # a text file: only the images named there, one a line


def convert_yolo(images: Path, labels: Path, names: Path, chosen: Path | None = None) -> dict:
    """Converts a data set of YOLO's, whose lines may be boxes or polygons.

    Args:
        images: folder of the images
        labels: folder of the .txt files
        names: the data.yaml that contains the names of the classes
        chosen: a text file: only the images named there, one a line, are converted

    Returns:
        "images", "annotations", "categories", all ids from 1.

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    source = Source(images, labels, ".txt", chosen)
    _check_folders(source)
    dataset = _read("from_yolo", names, source, data_yaml_path=str(names))
    with open(names, encoding="utf-8") as file:
        keypoints = "kpt_shape" in yaml.safe_load(file)
    return _to_coco(dataset, source, dataset.classes, lambda path, size: _yolo_outlines(path, size, keypoints))


def convert_voc(
    images: Path, labels: Path, categories: Sequence[str] | None = None, chosen: Path | None = None
) -> dict:
    """Converts a data set of Pascal VOC's: an object becomes its box and its polygons, if it has any.

    Args:
        images: folder of the images
        labels: folder of the .xml files
        categories: names in the order of their ids; None: those that occur, in alphabetical order
        chosen: as for :func:`convert_yolo`

    Returns:
        As :func:`convert_yolo`.

    Raises:
        InputError: as :func:`convert_yolo`.
    """
    source = Source(images, labels, ".xml", chosen)
    _check_folders(source)
    for path in sorted(labels.glob("*.xml")):  # supervision's errors don't name the file
        _check_voc(path)
    dataset = _read("from_pascal_voc", labels, source)
    return _to_coco(dataset, source, categories or sorted(dataset.classes), lambda path, size: _voc_outlines(path))


def _check_folders(source: Source) -> None:
    for path in (source.images, source.labels):
        if not path.is_dir():
            raise InputError(f"{path} is not a folder: name the folder that directly contains the files")


def _read(method: str, named: Path, source: Source, **options: str) -> Any:
    """Reads a DetectionDataset with supervision. Errors name the file `named`, unless they name one themselves."""
    try:
        from supervision import DetectionDataset
    except ImportError as error:
        raise InputError("the library supervision is not installed: pip install supervision") from error
    options |= {"images_directory_path": str(source.images), "annotations_directory_path": str(source.labels)}
    try:
        return getattr(DetectionDataset, method)(**options)
    except (ValueError, LookupError, OSError, yaml.YAMLError, ElementTree.ParseError) as error:
        raise InputError(f"{named} can't be converted: {' '.join(str(error).split())}") from error


def _check_voc(path: Path) -> None:
    try:
        for element in ElementTree.parse(path).iterfind("object"):
            if not element.findtext("name"):
                raise ValueError("an object has no name")
            for side in ("xmin", "ymin", "xmax", "ymax"):
                float(element.findtext(f"bndbox/{side}", f"an object has no {side}"))
    except (ValueError, OSError, ElementTree.ParseError) as error:
        raise InputError(f"{path} is not an annotation file of Pascal VOC ({error}): correct it") from error


def _yolo_outlines(path: Path, size: tuple[int, int], keypoints: bool) -> list[list[np.ndarray]]:
    """Reads each object's polygons, (corners, 2) float64 in pixels; none for an object given by a box."""
    rows = [line.split()[1:] for line in path.read_text().splitlines() if line.strip()]
    for row in rows:
        if len(row) > 5 and len(row) % 2 and not keypoints:
            raise InputError(f"{path} has a polygon of {len(row)} numbers, but x and y come in pairs: correct it")
    with_outline = [len(row) > 5 and not keypoints for row in rows]  # a fifth number is a score or the like
    return [
        [np.array(row, dtype=float).reshape(-1, 2) * size] if outlined else []
        for row, outlined in zip(rows, with_outline, strict=True)
    ]


def _voc_outlines(path: Path) -> list[list[np.ndarray]]:
    """Reads the same as :func:`_yolo_outlines`. VOC counts pixels from 1."""
    return [
        [
            np.array([float(number.text or "") for number in polygon]).reshape(-1, 2) - 1
            for polygon in element.iterfind("polygon")
        ]
        for element in ElementTree.parse(path).iterfind("object")
    ]


def _select(files: Sequence[str], source: Source) -> list[Path]:
    """Selects the images to convert, sorted by name. Two with the same stem would share their labels."""
    paths = sorted(map(Path, files))
    if not paths:
        raise InputError(f"{source.images} holds no images that supervision knows; folders in it are not searched")
    stem, count = Counter(path.stem for path in paths).most_common(1)[0]
    if count > 1:
        twins = " and ".join(path.name for path in paths if path.stem == stem)
        raise InputError(
            f"{twins} in {source.images} would share the labels {stem}{source.ending}: rename or remove one"
        )
    if not source.chosen:
        return paths
    try:
        wanted = {Path(line.split()[0]).stem for line in source.chosen.read_text().splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--list {source.chosen} can't be read ({error}): name a text file") from error
    missing = wanted - {path.stem for path in paths}
    if missing or not wanted:
        raise InputError(
            f"--list {source.chosen} names {min(missing, default='nothing')}, which is not in {source.images}"
        )
    return [path for path in paths if path.stem in wanted]


def _to_coco(dataset: Any, source: Source, names: Sequence[str], outlines: Outlines) -> dict:
    names, images, annotations = list(names), [], []
    for path in _select(dataset.image_paths, source):
        height, width = read_size(path)  # rotated, as in training
        images.append({"id": len(images) + 1, "file_name": path.name, "width": width, "height": height})
        objects, label_file = dataset.annotations[str(path)], source.labels / f"{path.stem}{source.ending}"
        polygons = outlines(label_file, (width, height)) if label_file.exists() else []
        for number, box, parts in zip(objects.class_id, objects.xyxy.astype(float), polygons, strict=True):
            name = dataset.classes[number]
            if name not in names:
                raise InputError(f"{label_file} has an object {name!r}, which --categories doesn't name: add it")
            ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": names.index(name) + 1}
            annotations.append(ids | _geometry(box, parts, (width, height), label_file))
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _geometry(box: np.ndarray, polygons: list[np.ndarray], size: tuple[int, int], label_file: Path) -> dict:
    """Builds an annotation's box, area and polygons. `box` is x0 y0 x1 y1, `size` width and height, all in pixels."""
    if (box < -TOLERANCE * max(size)).any() or (box.reshape(2, 2) > np.multiply(size, 1 + TOLERANCE)).any():
        raise InputError(
            f"{label_file} has an object from x, y = {box[0]:.0f}, {box[1]:.0f} to {box[2]:.0f}, {box[3]:.0f} pixels, "
            f"outside its image of {size[0]}×{size[1]}: correct the label, or put the right image there"
        )
    x0, y0, x1, y1 = np.clip(box.reshape(2, 2), 0, size).flatten().round(2).tolist()
    place = {"bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
    if polygons:
        polygons = [np.clip(polygon, 0, size) for polygon in polygons]
        place["segmentation"] = [polygon.flatten().round(2).tolist() for polygon in polygons]
        place["area"] = sum(_polygon_area(polygon) for polygon in polygons)
    return place


def _polygon_area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
