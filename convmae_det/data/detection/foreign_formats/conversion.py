"""What the conversions share: which images and label files there are, and the content of a file in COCO's format."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ....errors import InputError
from ....files import describe_missing_folder
from ...image import SUFFIXES, Decoding, read_size
from ..outlines import compute_area

TOLERANCE = 0.02  # of the image's sides: a box that goes further beyond them is for another image, or not relative
LABELME = "LabelMe's format: convmae-det convert-annotations labelme"


class Source(NamedTuple):
    """The files of a data set."""

    images: Path  # folder
    labels: Path  # folder
    ending: str  # of label files
    named_in: str  # where the classes are named
    chosen: Path | None  # a text file: only the images named there, one a line
    decoding: Decoding  # whether photos are turned

    def find_labels(self, image: Path) -> Path:
        """Returns the label file of an image, which need not exist."""
        return self.labels / f"{image.stem}{self.ending}"


class Labelled(NamedTuple):
    """An object of an image."""

    label: int | str  # its class, as the label file has it
    box: np.ndarray  # x0 y0 x1 y1 in pixels
    polygons: list[np.ndarray]  # (corners, 2) in pixels; none for an object given by a box


def check_folders(source: Source) -> None:
    """Checks that the folders exist, and that there are label files of the format if there are any.

    Raises:
        InputError: no such folder, or files of another format alone, with advice about it.
    """
    for path in (source.images, source.labels):
        if problem := describe_missing_folder(path):
            raise InputError(f"{path} is not a folder that directly contains the files: it {problem}")
    found = [path for path in sorted(source.labels.iterdir()) if path.suffix.lower() in (".txt", ".xml", ".json")]
    if found and not any(path.suffix == source.ending for path in found):
        raise InputError(
            f"{source.labels} holds no {source.ending} files; {found[0].name} is {describe_format(found[0])}"
        )


def describe_format(path: Path) -> str:
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


def list_images(source: Source) -> list[Path]:
    """Lists the images in the folder, labelled or not, sorted by name.

    Raises:
        InputError: there are none.
    """
    paths = sorted(path for path in source.images.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not paths:
        raise InputError(f"{source.images} holds no images; folders in it are not searched")
    return paths


def name_classes(categories: Sequence[str] | None, objects: Iterable[Labelled]) -> dict[str, str]:
    """Names the classes where labels are names: `categories`, or those that occur, in alphabetical order.

    Raises:
        InputError: a name comes twice.
    """
    names = list(categories or sorted({str(found.label) for found in objects}))
    check_distinct(names, "--categories")
    return dict(zip(names, names, strict=True))


def check_distinct(names: Iterable[str], path: Path | str) -> None:
    """Checks that no two classes named in `path` have the same name.

    Raises:
        InputError: two have.
    """
    for name, count in Counter(names).most_common(1):
        if count > 1:
            raise InputError(f"{path} can't be converted: {count} classes are called {name!r}; rename all but one")


def build_content(
    source: Source,
    paths: Sequence[Path],
    classes: Mapping[int, str] | Mapping[str, str],
    list_objects: Callable[[Path, tuple[int, int]], Iterable[Labelled]],
) -> dict:
    """Builds the content of a file in COCO's format.

    Args:
        source: the files
        paths: of all images, sorted
        classes: names by label, in the order of their ids
        list_objects: lists the objects of an image, given its path, width and height

    Returns:
        "images", "annotations", "categories", all ids from 1.

    Raises:
        InputError: an image that can't be read, an object that can't be meant, or no object at all.
    """
    numbers = {label: number for number, label in enumerate(classes, 1)}
    images, annotations = [], []
    for path in _select(paths, source):
        height, width = read_size(path, source.decoding)  # rotated, as in training
        images.append({"id": len(images) + 1, "file_name": path.name, "width": width, "height": height})
        for found in list_objects(path, (width, height)):
            if found.label not in numbers:
                raise InputError(
                    f"{source.find_labels(path)} has an object '{found.label}', which {source.named_in} doesn't name: "
                    "add it"
                )
            ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": numbers[found.label]}
            annotations.append(ids | _describe_place(found, width, height, source.find_labels(path)))
    if not annotations:
        raise InputError(
            f"{source.labels} holds no object for the {len(images)} images of {source.images}, so there is nothing to "
            f"convert: name the folder of their {source.ending} files, which are called as the images are"
        )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes.values(), 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _select(paths: Sequence[Path], source: Source) -> Sequence[Path]:
    """Selects the images to convert. Two with the same stem would share their labels."""
    for stem, count in Counter(path.stem for path in paths).most_common(1):
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


def _describe_place(found: Labelled, width: int, height: int, label_file: Path) -> dict:
    """Describes an object's box, area and polygons in an image of this size."""
    box, size = found.box, (width, height)
    if (box < -TOLERANCE * max(size)).any() or (box.reshape(2, 2) > np.multiply(size, 1 + TOLERANCE)).any():
        raise InputError(
            f"{label_file} has an object from x, y = {box[0]:.0f}, {box[1]:.0f} to {box[2]:.0f}, {box[3]:.0f} pixels, "
            f"outside its image of {width}×{height}: correct the label, or put the right image there"
        )
    x0, y0, x1, y1 = np.clip(box.reshape(2, 2), 0, size).flatten().round(2).tolist()
    place: dict = {"bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)], "iscrowd": 0}
    if found.polygons:
        place["segmentation"] = [np.clip(part, 0, size).flatten().round(2).tolist() for part in found.polygons]
    return place | {"area": compute_area(place, height, width)}
