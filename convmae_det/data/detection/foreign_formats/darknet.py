"""Darknet's format: obj.data names the classes, and lists of images; label files of YOLO's format lie beside these."""

from pathlib import Path

from ....errors import InputError
from .account import Account
from .naming import read_names
from .objects import DataSet
from .reading import read_lines, report_file
from .recognition import find_file
from .source import Source
from .yolo import FORM, SPLITS, find_label_file, make_image


def read_darknet(source: Source, account: Account) -> DataSet:
    """Reads a data set of Darknet's; `annotations` is the .data file, or the folder that holds it.

    Its paths are relative to the folder in which Darknet was started: here to that of the .data file, or to one above
    it, or less their first folder, as CVAT writes them.

    Raises:
        InputError: something is missing or can't be read; names it.
    """
    path = find_file(source.annotations, "darknet", "the .data file")
    with report_file(path, "a .data file of Darknet"):
        entries = dict(_parse_line(line) for line in read_lines(path) if not line.startswith("#"))
    if "names" not in entries or not entries.keys() & SPLITS.keys():
        raise InputError(f"{path} must have the lines names = …, and train = … or valid = …: add them")
    listed = source.names or _find(entries["names"], path)
    names = dict(enumerate(read_names(listed)))
    folder = source.open_images(account, path.parent)
    lists = [(_find(entries[key], path), split) for key, split in SPLITS.items() if key in entries]
    images = [
        make_image(image, _find_labels(image), names, listed, account, split=split)
        for file, split in lists
        for name in _read_list(file)
        if (image := folder.find(name, file))
    ]
    return DataSet(images, folder.root, FORM, list(names.values()), str(listed), folder.paths)


def _read_list(path: Path) -> list[str]:
    with report_file(path, "a list of images, one a line"):
        return read_lines(path)


def _parse_line(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip(), value.strip()


def _find(name: str, path: Path) -> Path:
    """Finds a file that the .data file names.

    Raises:
        InputError: it isn't there.
    """
    shorter = Path(*Path(name).parts[1:])
    places = [path.parent / name, path.parent.parent / name, path.parent / shorter, path.parent / Path(name).name]
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"{path} names {name}, which isn't there: put it beside it")


def _find_labels(image: Path) -> Path:
    """Finds the label file beside an image, else where YOLO has it."""
    beside = image.with_suffix(".txt")
    return beside if beside.exists() else find_label_file(image)
