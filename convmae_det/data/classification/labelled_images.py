"""Images with a label each, listed from a folder of classes or a CSV file."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence

import torch

from ...errors import InputError
from ...files import describe_missing_folder
from ..pretraining.folders import ImageFiles, list_images
from .label_table import read_label_table

MOST_NAMES = 5  # classes that a sentence names


class LabelledImages(Sequence[dict]):
    """Images in Detectron2's format: item i is {"file_name": str, "image_id": i, "label": int}, created on access.

    Attributes:
        classes: the names of the classes, by label
        labels: (number of images,) int64
    """

    def __init__(self, files: ImageFiles, labels: torch.Tensor, classes: Sequence[str]):
        self.files, self.labels, self.classes = files, labels, list(classes)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        return self.files[index] | {"label": int(self.labels[index])}

    def digest(self) -> str:
        """Computes a hash of the files, their order, their labels and the classes."""
        names = "\0".join([self.files.digest(), *self.classes])
        return hashlib.sha256(names.encode() + self.labels.numpy().tobytes()).hexdigest()


def list_labelled_images(source: str, classes: Sequence[str] | None = None, arrays: bool = False) -> LabelledImages:
    """Lists the images of a folder of classes, or of a CSV file.

    In a folder, each folder is a class, and the images in it at any depth belong to it; what is an image,
    :func:`list_images` says. A CSV file has the columns "path" (relative to the file) and "label" (the name of the
    class); others are ignored.

    Args:
        source: the folder, or the file; ~ is the home folder
        classes: the names of the classes, by label, of which some may have no image, as where the classes of a
            training part are those of a test part; None: the names found, sorted, as numbers if all are
        arrays: whether .npy files in a folder are images, too

    Raises:
        InputError: nothing is there or it can't be read, it has no images or no classes, a class that `classes` lacks;
            without `classes`, one class alone.
    """
    path = os.path.abspath(os.path.expanduser(source))
    if os.path.isfile(path) and path.lower().endswith(".csv"):
        files, names = read_label_table(path)
    elif problem := describe_missing_folder(path):
        raise InputError(f"{source} {problem}; labelled images come as a folder of classes, or as a .csv file.")
    else:
        files, names = _list_folders_of_classes(os.path.realpath(path), arrays)
    known = _sort_names(set(names)) if classes is None else list(classes)
    if classes is None:
        _check_classes(source, known)
    else:
        _check_known(source, Counter(names), known)
    places = {name: label for label, name in enumerate(known)}
    labels = torch.tensor([places[name] for name in names], dtype=torch.int64)
    return LabelledImages(ImageFiles.from_names(files), labels, known)


def _list_folders_of_classes(folder: str, arrays: bool) -> tuple[list[str], list[str]]:
    """Lists the files, and the name of the class of each."""
    root = os.path.join(folder, "")
    files = [image["file_name"] for image in list_images(folder, arrays)]
    inner = [name.removeprefix(root) for name in files]
    stray = [name for name, path in zip(files, inner, strict=True) if os.sep not in path]
    if len(stray) == len(files):
        raise InputError(f"{folder} holds images but no folders of classes: put the images of each class into one.")
    if stray:
        raise InputError(
            f"{stray[0]} is of no class, for it lies beside the folders of classes: move it, or remove it "
            f"({len(stray):,} such images)."
        )
    return files, [path.partition(os.sep)[0] for path in inner]


def _sort_names(names: set[str]) -> list[str]:
    if all(name.isascii() and name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _check_classes(source: str, classes: Sequence[str]) -> None:
    if len(classes) == 1:
        raise InputError(f"{source} holds one class alone, {classes[0]}: there must be at least two to tell apart.")
    if odd := [name for name in classes if not name.isprintable()]:
        raise InputError(f"{source} has a class named {odd[0]}, which can't be printed: rename it.")


def _check_known(source: str, count: Counter[str], classes: Sequence[str]) -> None:
    """Checks that the classes found, with the number of images of each, are among `classes`."""
    if unknown := sorted(count.keys() - set(classes)):
        shown = ", ".join(unknown[:MOST_NAMES]) + (", …" if len(unknown) > MOST_NAMES else "")
        raise InputError(
            f"{source} has images of {shown}, not among the {len(classes)} classes of the training part: rename or "
            f"remove them ({sum(count[name] for name in unknown):,} images)."
        )
