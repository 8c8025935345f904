"""What is to be converted, as its user names it, and where the images are that label files name."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ....errors import InputError
from ....files import describe_missing_folder
from ...file_kinds import ARRAY, SUFFIXES
from ...image import DEFAULT, Decoding
from .account import Account
from .objects import LabelledImage

CROWD, OBJECT, SKIP = "crowd", "object", "skip"  # what becomes of Pascal VOC's difficult objects


@dataclass(frozen=True)
class Source:
    """A data set in another format.

    Attributes:
        annotations: the label file, or the folder of label files
        images: folder of the images; None: where the format has them
        names: a file with the names of the classes, for formats whose labels are numbers or codes
        decoding: whether photos are turned as EXIF says
        skip_missing: whether images that are labelled, but not there, are left out, and counted; else they are an error
        difficult: CROWD, OBJECT or SKIP; of Pascal VOC
        attribute: that holds the class of a region; of VIA; empty: the only one that there is
        category: the class of objects that have none; of folders of masks, and of VIA
    """

    annotations: Path
    images: Path | None = None
    names: Path | None = None
    decoding: Decoding = DEFAULT
    skip_missing: bool = False
    difficult: str = CROWD
    attribute: str = ""
    category: str = "object"

    def open_images(self, account: Account, folder: Path | None = None) -> "ImageFolder":
        """Opens the folder of images: that which is named, or `folder`, or "images" beside annotations, or theirs."""
        beside = self.annotations if self.annotations.is_dir() else self.annotations.parent
        inner = beside / "images" if (beside / "images").is_dir() else beside
        return ImageFolder(self.images or folder or inner, account, self.skip_missing)


class ImageFolder:
    """The images in a folder and in the folders in it.

    Attributes:
        root: the folder
        paths: of the images, sorted by name
    """

    def __init__(self, root: Path, account: Account, skip_missing: bool = False):
        check_folder(root)
        self.root, self._account, self._skip_missing = root, account, skip_missing
        self.paths = list_images(root)
        self._folders = {path.parent.name for path in self.paths}
        self._by_name: dict[str, list[Path]] = {}
        for path in self.paths:
            for name in {path.name.casefold(), path.stem.casefold()}:
                self._by_name.setdefault(name, []).append(path)

    def has(self, name: str) -> bool:
        """Whether there is an image of this name, in any folder."""
        return name.casefold() in self._by_name

    def find(self, name: str, label_file: Path, subset: str = "", stated: tuple[int, int] | None = None) -> Path | None:
        """Finds the image that a label file names.

        Its folders need not be those of the one who annotated it: the longer of both paths must end in the shorter. Or
        there must be only one image of this name, no folder of that which is named, and a size that the image is
        checked against: train/1.jpg is not val/1.jpg.

        Args:
            name: a path, Windows' or other, with or without the ending of the file
            label_file: for errors
            subset: the folder that the image may be in
            stated: its width and height, where the label file says something

        Returns:
            The path; None if the image isn't there, and is to be left out.

        Raises:
            InputError: it isn't there, or several images could be meant.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        found = self._by_name.get(parts[-1].casefold(), []) if parts else []
        for wanted in ([subset, *parts], parts) if subset else (parts,):
            for fits in (_is_same, is_tail):
                if len(fitting := [path for path in found if fits(path.relative_to(self.root), wanted)]) == 1:
                    return fitting[0]
        if len(found) == 1 and stated and self._folders.isdisjoint(parts[-2:-1]):
            self._account.note("images were found by their names alone, in other folders than their labels say", name)
            return found[0]
        if len(found) > 1:
            both = " and ".join(str(path.relative_to(self.root)) for path in found[:2])
            raise InputError(f"{name}, which {label_file} labels, could be {both} in {self.root}: rename one")
        if self._skip_missing:
            self._account.leave_out(f"labelled images, which are not in {self.root}", name)
            return None
        other = f" ({found[0].relative_to(self.root)}, in another folder, may be another image)" if found else ""
        raise InputError(
            f"{name or 'an image'} can't be read, which {label_file} labels: it is not in {self.root}{other}; put it "
            "there, name the right folder by --images, or leave out what is missing by --skip-missing"
        )


def _is_same(path: Path, parts: Sequence[str]) -> bool:
    return path.as_posix() == "/".join(parts)


def is_tail(path: Path, parts: Sequence[str]) -> bool:
    """Whether the longer of both paths ends in the shorter; the last of the parts may lack its ending."""
    one, other = path.parts, (*parts[:-1], path.name)
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]


def list_images(root: Path) -> list[Path]:
    """Lists the images in a folder and in the folders in it, sorted by name, without hidden ones."""
    return list_files(root, (*SUFFIXES, ARRAY))


def list_files(root: Path, endings: Sequence[str]) -> list[Path]:
    """Lists the files in a folder and in the folders in it that have one of these endings, sorted, without hidden ones.

    Links are followed, but no folder is entered twice.
    """
    found, entered = [], set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [] if real in entered else visible
        if real not in entered:
            entered.add(real)
            found += [Path(folder, name) for name in names if name[0] != "." and name.lower().endswith(tuple(endings))]
    return sorted(path for path in found if path.is_file())


def check_folder(path: Path) -> None:
    """Checks that a folder exists.

    Raises:
        InputError: it doesn't.
    """
    if problem := describe_missing_folder(path):
        raise InputError(f"{path} is not a folder that contains the files: it {problem}")


def check_stems(paths: Sequence[Path], root: Path, ending: str) -> None:
    """Checks that no two images would have the same label file, which is called as the image is.

    Raises:
        InputError: two have, or there are no images.
    """
    if not paths:
        raise InputError(f"{root} holds no images")
    for stem, count in Counter(path.with_suffix("") for path in paths).most_common(1):
        if count > 1:
            twins = " and ".join(path.name for path in paths if path.with_suffix("") == stem)
            raise InputError(f"{twins} in {root} would share the labels {stem.name}{ending}: rename or remove one")


def count_orphans(files: Sequence[Path], images: Sequence[LabelledImage], account: Account) -> None:
    """Counts the label files that no image has."""
    known = {image.label_file for image in images}
    if orphans := [file for file in files if file not in known]:
        account.leave_out("label files, whose image is not there, or not listed", orphans[0].name, len(orphans))


def find_beside(image: Path, root: Path, labels: Path, ending: str) -> Path:
    """Finds the label file of an image, which need not exist: as in the folder of images, in that of labels."""
    return labels / PurePosixPath(image.relative_to(root)).with_suffix(ending)
