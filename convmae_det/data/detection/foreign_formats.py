"""Converts annotations in YOLO's, Pascal VOC's and LabelMe's formats to the content of a file in COCO's format.

The library supervision reads the first two, but outlines are taken from the files directly, not from masks of pixels.
The images are not moved.
"""

import json
import logging
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
import yaml

from ...errors import InputError
from ...files import describe_missing_folder
from ..image import DEFAULT, Decoding, read_size

logger = logging.getLogger(__name__)

TOLERANCE = 0.02  # of the image's sides: a box that goes further beyond them is for another image, or not relative
MAX_CLASSES = 10_000
CVAT = "CVAT's own XML: export it from CVAT as COCO 1.0, which needs no conversion, or as Pascal VOC"
LABELME = "LabelMe's format: convmae-det convert-annotations labelme"

Outlines = Callable[[Path, tuple[int, int]], list[list[np.ndarray]]]  # label file, (width, height) → polygons by object


class Source(NamedTuple):
    """The files of a data set."""

    images: Path  # folder
    labels: Path  # folder
    ending: str  # of label files
    named_in: str  # where the classes are named
    chosen: Path | None  # a text file: only the images named there, one a line
    decoding: Decoding  # whether photos are turned


class Labelled(NamedTuple):
    """An object of an image."""

    name: str  # of its class
    category: int | None  # its id; None: the class is not among the categories
    box: np.ndarray  # x0 y0 x1 y1 in pixels
    polygons: list[np.ndarray]  # (corners, 2) in pixels; none for an object given by a box


def convert_yolo(
    images: Path, labels: Path, names: Path, chosen: Path | None = None, *, decoding: Decoding = DEFAULT
) -> dict:
    """Converts a data set of YOLO's, whose lines may be boxes or polygons.

    Args:
        images: folder of the images
        labels: folder of the .txt files
        names: the data.yaml that contains the names of the classes, a list, or by the numbers that labels use
        chosen: a text file: only the images named there, one a line, are converted
        decoding: whether photos are turned as EXIF says

    Returns:
        "images", "annotations", "categories", all ids from 1.

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    source = Source(images, labels, ".txt", str(names), chosen, decoding)
    _check_folders(source)
    content = _read_yaml(names)
    numbered = _number_names(content, names)
    with tempfile.TemporaryDirectory() as folder:  # supervision takes the place of a name for the number of its class
        complete = Path(folder, "data.yaml")
        listed = [numbered.get(number, str(number)) for number in range(max(numbered) + 1)]
        complete.write_text(yaml.safe_dump(content | {"names": listed}))
        dataset = _read("from_yolo", names, source, data_yaml_path=str(complete))
    ids = {number: index for index, number in enumerate(numbered, 1)}
    keypoints = "kpt_shape" in content

    def list_objects(path: Path, size: tuple[int, int]) -> list[Labelled]:
        objects = _list_objects(
            dataset, source, ids, path, size, lambda file, size: _read_yolo_outlines(file, size, keypoints)
        )
        if not decoding.ignore_exif:
            return objects
        scale = np.tile(np.divide(size, read_size(path)[::-1]), 2)  # supervision takes the sides of the turned photo
        return [found._replace(box=found.box * scale) for found in objects]

    return _to_coco(_select(dataset.image_paths, source), source, list(numbered.values()), list_objects)


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
    _check_folders(source)
    for path in sorted(labels.glob("*.xml")):  # supervision's errors don't name the file
        _check_voc(path)
    dataset = _read("from_pascal_voc", labels, source)
    names = list(categories or sorted(dataset.classes))
    ids = {number: names.index(name) + 1 for number, name in enumerate(dataset.classes) if name in names}

    def list_objects(path: Path, size: tuple[int, int]) -> list[Labelled]:
        return _list_objects(dataset, source, ids, path, size, lambda label_file, size: _read_voc_outlines(label_file))

    return _to_coco(_select(dataset.image_paths, source), source, names, list_objects)


def convert_labelme(
    images: Path,
    labels: Path,
    categories: Sequence[str] | None = None,
    chosen: Path | None = None,
    *,
    decoding: Decoding = DEFAULT,
) -> dict:
    """Converts a data set of LabelMe's: rectangles and polygons, those of one group and label being one object.

    Other shapes are left out, and logged. The arguments are those of :func:`convert_voc`, `labels` the folder of the
    .json files, each of which names its image.

    Raises:
        InputError: as :func:`convert_yolo`.
    """
    source = Source(images, labels, ".json", "--categories", chosen, decoding)
    _check_folders(source)
    files = {}
    for path in sorted(labels.glob("*.json")):
        content = _read_labelme(path)
        files[str(images / PureWindowsPath(content["imagePath"]).name)] = path, content["shapes"]
    shapes = [shape for _, listed in files.values() for shape in listed]
    left_out = Counter(shape["shape_type"] for shape in shapes if shape["shape_type"] not in ("rectangle", "polygon"))
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        logger.warning(f"{labels}: left out {kinds}: only rectangles and polygons are objects")
    names = list(categories or sorted({shape["label"] for shape in shapes if shape["shape_type"] not in left_out}))

    def list_objects(path: Path, size: tuple[int, int]) -> list[Labelled]:
        return _group_shapes(files[str(path)][1], names)

    return _to_coco(_select(list(files), source), source, names, list_objects)


def _check_folders(source: Source) -> None:
    for path in (source.images, source.labels):
        if problem := describe_missing_folder(path):
            raise InputError(f"{path} is not a folder that directly contains the files: it {problem}")
    found = [path for path in sorted(source.labels.iterdir()) if path.suffix.lower() in (".txt", ".xml", ".json")]
    if found and not any(path.suffix == source.ending for path in found):
        raise InputError(
            f"{source.labels} holds no {source.ending} files; {found[0].name} is {_guess_format(found[0])}"
        )


def _guess_format(path: Path) -> str:
    """Describes the format of a label file, and what to do with it."""
    if path.suffix == ".txt":
        return "a text file, perhaps of YOLO's format: convmae-det convert-annotations yolo"
    if path.suffix == ".xml":
        return "XML, perhaps of Pascal VOC's format: convmae-det convert-annotations voc"
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return "not valid JSON: correct it"
    if isinstance(content, dict) and "shapes" in content:
        return LABELME
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        return "in COCO's format, which DATASETS.COCO_FORMAT takes as it is"
    return "JSON of a format that isn't known here: export the annotations in COCO's format"


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


def _read_yaml(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} can't be converted: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} can't be converted: it holds no line names: with the names of the classes")
    return content


def _number_names(content: dict, path: Path) -> dict[int, str]:
    """Reads the names of YOLO's classes by their numbers, in the order of these."""
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise InputError(f"{path} can't be converted: names: must be a list, or map the numbers of labels to names")
    valid = [not isinstance(key, bool) and str(key).strip().isdecimal() and int(key) < MAX_CLASSES for key in names]
    wrong = [key for key, holds in zip(names, valid, strict=True) if not holds]
    if wrong:
        raise InputError(
            f"{path} can't be converted: {wrong[0]!r} under names: must be the number that labels use, from 0 to "
            f"{MAX_CLASSES - 1}"
        )
    numbered = {int(key): str(names[key]) for key in sorted(names, key=int)}
    _check_distinct(numbered.values(), path)
    if len(numbered) < len(names):
        raise InputError(f"{path} can't be converted: it names a class twice")
    return numbered


def _check_distinct(names: Collection[str], path: Path | str) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path} can't be converted: {count} classes are called {name!r}; rename all but one")


def _check_voc(path: Path) -> None:
    try:
        root = ElementTree.parse(path).getroot()
        if root.tag == "annotations" and root.find("image") is not None:
            raise InputError(f"{path} is {CVAT}")
        if root.tag != "annotation":
            raise ValueError(f"its root is {root.tag}, not annotation")
        for element in root.iterfind("object"):
            if not element.findtext("name"):
                raise ValueError("an object has no name")
            for side in ("xmin", "ymin", "xmax", "ymax"):
                float(element.findtext(f"bndbox/{side}", f"an object has no {side}"))
    except InputError:
        raise
    except (ValueError, OSError, ElementTree.ParseError) as error:
        raise InputError(f"{path} is not an annotation file of Pascal VOC ({error}): correct it") from error


def _read_labelme(path: Path) -> dict:
    """Reads and checks a file: "imagePath", and "shapes" with "label", "points" and "shape_type" as in all versions."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content["imagePath"], str) or not PureWindowsPath(content["imagePath"]).name:
            raise ValueError("imagePath names no image")
        for shape in content["shapes"]:
            shape.setdefault("shape_type", "polygon")
            points = np.array(shape["points"], dtype=float)
            least = {"polygon": 3, "rectangle": 2}.get(shape["shape_type"], 0)
            if not isinstance(shape["label"], str) or (least and (points.ndim, points.shape[-1]) != (2, 2)):
                raise ValueError("a shape has no label, or points that are not pairs of x and y")
            if len(points) < least or not np.isfinite(points).all():
                raise ValueError(f"a {shape['shape_type']} has fewer than {least} points, or some that are not finite")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        known = f"it is {_guess_format(path)}" if path.is_file() else str(error)
        reason = str(error) if LABELME in known else known
        raise InputError(f"{path} is not an annotation file of LabelMe ({reason}): correct or remove it") from error
    return content


def _group_shapes(shapes: Sequence[dict], names: Sequence[str]) -> list[Labelled]:
    """Makes objects of rectangles and polygons: shapes with the same label and a group number are one."""
    groups: dict[tuple, list[dict]] = {}
    for number, shape in enumerate(shapes):
        if shape["shape_type"] in ("rectangle", "polygon"):
            group = shape.get("group_id")
            key = (shape["label"], "alone", number) if group is None else (shape["label"], "group", group)
            groups.setdefault(key, []).append(shape)
    objects = []
    for (name, *_), group in groups.items():
        points = [np.array(shape["points"], dtype=float) for shape in group]
        corners = np.concatenate(points)
        outlined = any(shape["shape_type"] == "polygon" for shape in group)
        polygons = [
            points if shape["shape_type"] == "polygon" else _outline_rectangle(points)
            for shape, points in zip(group, points, strict=True)
        ]
        category = names.index(name) + 1 if name in names else None
        box = np.concatenate([corners.min(0), corners.max(0)])
        objects.append(Labelled(name, category, box, polygons if outlined else []))
    return objects


def _outline_rectangle(points: np.ndarray) -> np.ndarray:
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _read_yolo_outlines(path: Path, size: tuple[int, int], keypoints: bool) -> list[list[np.ndarray]]:
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


def _read_voc_outlines(path: Path) -> list[list[np.ndarray]]:
    """Reads the same as :func:`_read_yolo_outlines`. VOC counts pixels from 1."""
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


def _list_objects(
    dataset: Any, source: Source, ids: dict[int, int], path: Path, size: tuple[int, int], outlines: Outlines
) -> list[Labelled]:
    """Lists the objects that supervision has read of an image, with their outlines.

    Args:
        dataset: of supervision
        source: of its files
        ids: of the categories, by the number of the class
        path: of the image
        size: its width and height
        outlines: reads those of a label file
    """
    objects, label_file = dataset.annotations[str(path)], source.labels / f"{path.stem}{source.ending}"
    polygons = outlines(label_file, size) if label_file.exists() else []
    rows = zip(objects.class_id, objects.xyxy.astype(float), polygons, strict=True)
    return [Labelled(dataset.classes[number], ids.get(int(number)), box, parts) for number, box, parts in rows]


def _to_coco(
    paths: Sequence[Path],
    source: Source,
    names: Sequence[str],
    list_objects: Callable[[Path, tuple[int, int]], list[Labelled]],
) -> dict:
    """Builds the content of the file from images, the names of their classes, and what lists the objects of each."""
    if names:
        _check_distinct(names, source.named_in)
    images, annotations = [], []
    for path in paths:
        height, width = read_size(path, source.decoding)  # rotated, as in training
        images.append({"id": len(images) + 1, "file_name": path.name, "width": width, "height": height})
        label_file = source.labels / f"{path.stem}{source.ending}"
        for found in list_objects(path, (width, height)):
            if found.category is None:
                raise InputError(
                    f"{label_file} has an object {found.name!r}, which {source.named_in} doesn't name: add it"
                )
            ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": found.category}
            annotations.append(ids | _build_geometry(found.box, found.polygons, (width, height), label_file))
    if not annotations:
        raise InputError(
            f"{source.labels} holds no object for the {len(images)} images of {source.images}, so there is nothing to "
            f"convert: name the folder of their {source.ending} files, which are called as the images are"
        )
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _build_geometry(box: np.ndarray, polygons: list[np.ndarray], size: tuple[int, int], label_file: Path) -> dict:
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
        place["area"] = sum(_compute_polygon_area(polygon) for polygon in polygons)
    return place


def _compute_polygon_area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
