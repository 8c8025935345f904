"""YOLO's format: a text file for each image, whose lines are boxes or polygons, relative to the image's size."""

import math
from pathlib import Path

import numpy as np
import yaml

from ....errors import InputError
from ...image import DEFAULT, Decoding
from .conversion import Labelled, Source, build_content, check_distinct, check_folders, list_images


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
    check_folders(source)
    content = _read_yaml(names)

    def list_objects(image: Path, size: tuple[int, int]) -> list[Labelled]:
        path = source.find_labels(image)
        return _read_labels(path, size, has_keypoints="kpt_shape" in content) if path.exists() else []

    return build_content(source, list_images(source), _number_names(content, names), list_objects)


def _read_yaml(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
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


def _read_labels(path: Path, size: tuple[int, int], has_keypoints: bool) -> list[Labelled]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        return [_parse_line(line.split(), size, has_keypoints) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be converted: {error}; correct it") from error


def _parse_line(words: list[str], size: tuple[int, int], has_keypoints: bool) -> Labelled:
    """Parses a class id, and a box, with a score or keypoints behind it, or a polygon."""
    line = " ".join(words)
    number, *numbers = map(_parse_number, words)
    if not number.is_integer():
        raise ValueError(f"the class id {words[0]!r} is not a whole number")
    if len(numbers) < 4:
        raise ValueError(f"the line {line!r} has not at least 5 tokens, a class id and a box")
    if not np.isfinite(numbers).all():
        raise ValueError(f"the line {line!r} holds what is not a finite number")
    if has_keypoints or len(numbers) <= 5:
        centre, sides = np.reshape(numbers[:4], (2, 2)) * size
        if (sides < 0).any():
            raise ValueError(f"the line {line!r} has a negative width or height")
        return Labelled(int(number), np.concatenate([centre - sides / 2, centre + sides / 2]), [])
    if len(numbers) % 2:
        raise ValueError(f"it has a polygon of {len(numbers)} numbers, but x and y come in pairs")
    corners = np.reshape(numbers, (-1, 2)) * size
    return Labelled(int(number), np.concatenate([corners.min(0), corners.max(0)]), [corners])


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
