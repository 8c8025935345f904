"""YOLO's format: a text file for each image, whose lines are boxes or polygons, relative to the image's size."""

import functools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath

import numpy as np
import yaml

from ....errors import InputError
from .account import UNLABELLED, Account
from .naming import check_distinct, read_names
from .objects import DataSet, Labelled, LabelledImage, make_box, make_curve, make_polygon
from .reading import locate, read_lines, report_file
from .recognition import describe_file
from .source import Source, check_folder, check_stems, count_orphans, find_beside, list_files, list_images

FORM = "a label file of YOLO"
ENDING = ".txt"
# What lists of images are called, and what the splits are here.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
YAML = (".yaml", ".yml")
LISTS = ("classes.txt", "obj.names")  # names of classes beside label files, one a line


def read_yolo(source: Source, account: Account) -> DataSet:
    """Reads a data set of YOLO's, whose lines may be boxes or polygons.

    Args:
        source: `annotations` is the YAML file that names classes and splits, or a folder of label files, whose `images`
            and `names` are then named, or lie beside it
        account: of label files without an image

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    is_folder = source.annotations.is_dir()
    path = _find_yaml(source.annotations) if is_folder and not source.names else source.annotations
    if path is None or (is_folder and source.names):
        return _read_folder(source, account)
    if path.suffix.lower() not in YAML:
        raise InputError(
            f"{path} is one file of many: name the YAML file of the data set, or the folder of label files"
        )
    content = _read_yaml(path)
    names, keypoints = _number_names(content, path), "kpt_shape" in content
    if source.images:
        listed = [("", image) for image in list_images(source.images)]
    else:
        listed = list(_list_splits(content, source, path, account))
    images = [
        make_image(image, find_label_file(image), names, path, account, keypoints, split) for split, image in listed
    ]
    root = source.images or Path(os.path.commonpath([image.path.parent for image in images]))
    folders = {image.label_file.parent for image in images if image.label_file.parent != image.path.parent}
    count_orphans([file for folder in sorted(folders) for file in _list_label_files(folder)], images, account)
    return DataSet(images, root, FORM, list(names.values()), str(path))


def _list_label_files(folder: Path) -> list[Path]:
    return [path for path in list_files(folder, [ENDING]) if path.name not in LISTS]


def make_image(
    image: Path,
    labels: Path,
    names: Mapping[int, str],
    named_in: Path,
    account: Account,
    keypoints: bool = False,
    split: str = "",
) -> LabelledImage:
    """Describes an image, whose label file need not exist.

    Args:
        image: its file
        labels: the label file
        names: of the classes, by the numbers that labels use
        named_in: the file that has them
        account: of what lines hold besides places, and of images without a label file
        keypoints: whether lines end in keypoints
        split: that the image belongs to
    """
    read = functools.partial(_read_labels, labels, names, named_in, account, keypoints)
    return LabelledImage(image, labels, read, split=split)


def find_label_file(image: Path) -> Path:
    """Finds the label file of an image as YOLO's programs do: in "labels" in place of "images", else beside it."""
    parts = list(image.parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            return Path(*parts).with_suffix(ENDING)
    return image.with_suffix(ENDING)


def _find_yaml(folder: Path) -> Path | None:
    """Finds the YAML file of a folder.

    Raises:
        InputError: there are several.
    """
    found = [path for ending in ("*.yaml", "*.yml") for path in sorted(folder.glob(ending))]
    if len(found) > 1:
        raise InputError(f"{folder} holds {found[0].name} and {found[1].name}: name the one of the data set")
    return found[0] if found else None


def _read_folder(source: Source, account: Account) -> DataSet:
    """Reads a folder of label files, or one that holds the folders "images" and "labels"."""
    labels = source.annotations
    check_folder(labels)
    if (labels / "labels").is_dir():
        labels = labels / "labels"
    root = source.images or find_label_file_folder(labels)
    check_folder(root)
    files = _list_label_files(labels)
    others = [path for path in sorted(labels.iterdir()) if path.suffix.lower() in (".xml", ".json")]
    if others and not files:
        raise InputError(f"{labels} holds no {ENDING} files; {others[0].name} is {describe_file(others[0])}")
    path, names, keypoints = _find_names(source, labels)
    paths = list_images(root)
    check_stems(paths, root, ENDING)
    images = [
        make_image(image, find_beside(image, root, labels, ENDING), names, path, account, keypoints) for image in paths
    ]
    count_orphans(files, images, account)
    return DataSet(images, root, FORM, list(names.values()), str(path))


def find_label_file_folder(labels: Path) -> Path:
    """Finds the folder of images of a folder of labels: "images" where that is "labels", else the same."""
    parts = list(labels.parts)
    if "labels" in parts:
        parts[len(parts) - 1 - parts[::-1].index("labels")] = "images"  # the last: higher ones are none of ours
    images = Path(*parts)
    return images if images.is_dir() else labels


def _find_names(source: Source, labels: Path) -> tuple[Path, dict[int, str], bool]:
    """Finds the file that names the classes, and reads it; the last value: whether there are keypoints.

    Raises:
        InputError: there is none.
    """
    beside = [folder / name for folder in (labels, labels.parent) for name in LISTS]
    path = source.names or next((path for path in beside if path.is_file()), None)
    if path is None:
        raise InputError(f"{labels} needs a file with the names of its classes: --names data.yaml or classes.txt")
    if path.suffix.lower() in YAML:
        content = _read_yaml(path)
        return path, _number_names(content, path), "kpt_shape" in content
    return path, dict(enumerate(read_names(path))), False


def _read_yaml(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} can't be converted: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} can't be converted: it holds no line names: with the names of the classes")
    return content


def _number_names(content: dict, path: Path) -> dict[int, str]:
    """Reads the names of the classes by their numbers, in the order of these."""
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise InputError(f"{path} can't be converted: names: must be a list, or map the numbers of labels to names")
    for key in names:
        if isinstance(key, bool) or not str(key).strip().isdecimal():
            raise InputError(f"{path} can't be converted: {key!r} under names: must be the number that labels use")
    numbered = {int(key): str(names[key]) for key in sorted(names, key=int)}
    check_distinct(numbered.values(), path)
    if len(numbered) < len(names):
        raise InputError(f"{path} can't be converted: it names a class twice")
    return numbered


def _list_splits(content: dict, source: Source, path: Path, account: Account) -> Iterator[tuple[str, Path]]:
    """Lists the images of the splits that a YAML file names, each with its split, by their absolute paths.

    Raises:
        InputError: it names none, or what isn't there.
    """
    base = path.parent / str(content.get("path") or "")
    bases = [base, path.parent] if base.is_dir() else [path.parent]  # else it is a folder of another machine
    named = {split: content[split] for split in SPLITS if content.get(split)}
    if not named:
        raise InputError(f"{path} names no images under train, val or test: add them, or name them by --images")
    for split, places in named.items():
        for place in places if isinstance(places, list) else [places]:
            found = _find_place(str(place), bases)
            if found is None:
                raise InputError(f"{path} names {place} under {split}, which isn't there: correct it")
            images = list_images(found) if found.is_dir() else _read_list(found, bases, source, account)
            check_stems(images, found, ENDING)
            yield from ((SPLITS[split], Path(os.path.abspath(image))) for image in images)


def _find_place(name: str, bases: list[Path]) -> Path | None:
    """Finds a folder or list of images; also one whose "../" is too much, as in exports of Roboflow."""
    names = [name, name.removeprefix("../")]
    return next((base / name for base in bases for name in names if (base / name).exists()), None)


def _read_list(path: Path, bases: list[Path], source: Source, account: Account) -> list[Path]:
    """Reads a list of images, whose "./" is the folder of the list, or one of `bases`.

    Raises:
        InputError: an image isn't there, and is not to be left out.
    """
    with report_file(path, "a list of images, one a line"):
        lines = read_lines(path)
    images = []
    for line in lines:
        if image := _find_listed(line, [path.parent, *bases]):
            images.append(image)
        elif source.skip_missing:
            account.leave_out(f"images that {path} names, but are not there", line)
        else:
            raise InputError(
                f"{path} names {path.parent / line}, which isn't there: correct it, or leave out what is missing by "
                "--skip-missing"
            )
    return images


def _find_listed(line: str, bases: list[Path]) -> Path | None:
    """Finds an image whose first folders may be those of another machine, as "data/" in exports of CVAT."""
    parts = PureWindowsPath(line).parts
    places = [base / line for base in bases]
    places += [base.joinpath(*parts[start:]) for start in range(len(parts)) for base in bases]
    return next((place for place in places if place.is_file()), None)


def _read_labels(
    path: Path,
    names: Mapping[int, str],
    named_in: Path,
    account: Account,
    has_keypoints: bool,
    width: int,
    height: int,
) -> list[Labelled]:
    objects = []
    if not path.exists():
        account.note(UNLABELLED, path.name)
        return []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            with locate(f"line {number}"):
                label, found = _parse_line(line.split(), (width, height), has_keypoints)
            behind = len(line.split()) - 5  # numbers behind a class and a box
            account.leave_out("keypoints of objects", path.name, has_keypoints and behind > 0)
            account.note("boxes have a confidence, as predictions have", path.name, not has_keypoints and behind == 1)
            if label not in names:
                raise InputError(f"{path} has an object '{label}', which {named_in} doesn't name: add it")
            objects.append(found._replace(label=names[label], place=f"line {number}"))
    return objects


def _parse_line(words: list[str], size: tuple[int, int], has_keypoints: bool) -> tuple[int, Labelled]:
    """Parses a class id, and a box, with a score or keypoints behind it, or a polygon; the object has no class yet."""
    line = " ".join(words)
    number, *numbers = map(_parse_number, words)
    if not number.is_integer():
        raise ValueError(f"the class id {words[0]!r} is not a whole number")
    if len(numbers) < 4:
        raise ValueError(f"{line!r} has not at least 5 tokens, a class id and a box")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{line!r} holds what is not a finite number")
    if has_keypoints or len(numbers) <= 5:
        centre, sides = np.reshape(numbers[:4], (2, 2)) * size
        if (sides < 0).any():
            raise ValueError(f"{line!r} has a negative width or height")
        return int(number), make_box("", [*(centre - sides / 2), *(centre + sides / 2)])
    if len(numbers) % 2:
        raise ValueError(f"it has a polygon of {len(numbers)} numbers, but x and y come in pairs")
    corners = np.reshape(numbers, (-1, 2))
    turned = len(corners) == 4 and ((corners.mean(0) >= 0) & (corners.mean(0) <= 1)).all()
    if turned and ((corners < 0) | (corners > 1)).any():  # a turned box at the image's border
        return int(number), make_curve("", corners * size, size)
    return int(number), make_polygon("", corners * size)


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
