"""Folders of images without labels, as data sets of Detectron2.

A folder is listed once. The list is kept in a cache file outside the folder, and is valid until a folder in it changes.
"""

import errno
import functools
import hashlib
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from ...errors import InputError

logger = logging.getLogger(__name__)

SUFFIXES = b".avif .bmp .gif .jp2 .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp".split()  # bytes, like file names

# Nanoseconds. The coarsest file systems store times in steps of two seconds, so a file may still be added to a folder
# that changed this recently without a change of its time.
SETTLED = 2 * 10**9


class ImageFiles(Sequence[dict]):
    """Images in Detectron2's format: item i is {"file_name": str, "image_id": i}, created on access.

    The paths are stored in one buffer, each terminated by a zero byte. Worker processes share it, forked or spawned; of
    a list of dicts, each worker would end up with a copy of its own.
    """

    def __init__(self, paths: np.ndarray):
        """Takes a writable uint8 array of shape (number of bytes,)."""
        self.paths, self.ends = torch.from_numpy(paths), torch.from_numpy(np.flatnonzero(paths == 0))

    @classmethod
    def from_names(cls, names: Iterable[str]) -> "ImageFiles":
        return cls(_packed(os.fsencode(name) + b"\0" for name in names))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        start = self.ends[index - 1].item() + 1 if index else 0
        return {"file_name": os.fsdecode(self.paths[start : self.ends[index]].numpy().tobytes()), "image_id": index}

    def digest(self) -> str:
        """Computes a hash of the names and their order."""
        return hashlib.sha256(self.paths.numpy().data).hexdigest()


class Listing(NamedTuple):
    """The content of a folder when it was listed; paths as in `ImageFiles`."""

    files: np.ndarray  # its images, absolute paths
    folders: np.ndarray  # the folder itself and all in it, absolute paths
    times: np.ndarray  # int64: when each of these folders was last changed, in nanoseconds

    def is_current(self) -> bool:
        """Whether no file has been added or removed since; both change the modification time of its folder."""
        folders = self.folders.tobytes().split(b"\0")[:-1]
        return all(_state(folder)[1] == changed for folder, changed in zip(folders, self.times, strict=True))


def register_image_folders(folders: Sequence[Sequence[str]]) -> None:
    """Registers folders of images, flat or nested, as data sets of Detectron2.

    Args:
        folders: pairs of name and path, as in DATASETS.IMAGE_FOLDERS. A name that was registered here before, for
            another folder, now stands for the new one.

    Raises:
        InputError: an entry that isn't such a pair, no such folder, or a name used twice or by another data set.
    """
    names = set()
    for entry in folders:
        if not (isinstance(entry, (list, tuple)) and len(entry) == 2 and all(isinstance(x, str) and x for x in entry)):
            raise InputError(f"DATASETS.IMAGE_FOLDERS holds {entry!r}: make it a list of pairs, [[name, folder], ...].")
        name, folder = entry[0], os.path.realpath(os.path.expanduser(entry[1]))
        if not os.path.isdir(folder):
            raise InputError(f"{entry[1]}, the folder of {name} in DATASETS.IMAGE_FOLDERS, doesn't exist: correct it.")
        if name in names:
            raise InputError(f"DATASETS.IMAGE_FOLDERS names {name} twice: give each folder a name of its own.")
        names.add(name)
        registered = MetadataCatalog.get(name).get("image_folder")
        if name in DatasetCatalog and registered is None:
            raise InputError(f"The name {name} in DATASETS.IMAGE_FOLDERS belongs to another data set: choose another.")
        if name not in DatasetCatalog or registered != folder:
            DatasetCatalog.pop(name, None)
            MetadataCatalog.remove(name)  # its attributes can't be changed
            DatasetCatalog.register(name, functools.partial(_list_of_dicts, folder))
            MetadataCatalog.get(name).image_folder = folder


def list_images(folder: str) -> ImageFiles:
    """Lists the images in a folder and all folders in it, in an order that depends on their names alone.

    Links are followed, but no folder is entered twice. Hidden files and folders are ignored. The suffix decides what
    is an image; the files themselves are not read. Only regular files count, not pipes or devices.

    Args:
        folder: absolute path without links

    Raises:
        InputError: there are none, or a folder can't be read.
    """
    cache = _cache_file(folder)
    listing = _read_cache(cache)
    if listing is None:
        start = time.time_ns()
        try:
            listing = _walk(folder)
        except OSError as error:
            path = os.fsdecode(error.filename)
            raise InputError(f"{path} can't be read ({error.strerror}): make it readable or move it away.") from error
        if listing.times.max() < start - SETTLED:
            _write_cache(cache, listing)
    if not len(listing.files):
        endings = b", ".join(SUFFIXES).decode()
        raise InputError(f"{folder} holds no images: name a folder with files that end in {endings}.")
    return ImageFiles(listing.files)


def _list_of_dicts(folder: str) -> list[dict]:
    return list(list_images(folder))


def _packed(paths: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(bytearray(b"".join(paths)), dtype=np.uint8)


def _walk(folder: str) -> Listing:
    files, folders, times, entered = [], [], [], set()
    waiting = [os.fsencode(folder)]  # bytes, since a name need not be text
    with tqdm(desc=f"Listing {folder}", unit=" files", delay=1, disable=None) as progress:
        while waiting:
            path = waiting.pop()
            identity, changed = _state(path)  # read before the content, so that a later change is noticed
            folders.append(path + b"\0")
            times.append(changed)
            if identity is None or identity in entered:
                continue
            entered.add(identity)
            images, inner = _content(path, progress)
            files.append(b"".join(os.path.join(path, name) + b"\0" for name in sorted(images)))
            waiting += (os.path.join(path, name) for name in sorted(inner, reverse=True))
    return Listing(_packed(files), _packed(folders), np.array(times, dtype=np.int64))


def _content(folder: bytes, progress: tqdm) -> tuple[list[bytes], list[bytes]]:
    """Lists the names of the images and of the folders in a folder.

    A broken link counts as an image if it has the suffix of one, to be reported when it can't be read, else as a
    folder: its target may be mounted the next time. Pipes, sockets and devices are ignored, whatever their name:
    opening one may block forever.
    """
    images, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            progress.update()
            if entry.name.startswith(b"."):
                continue
            if entry.is_symlink():
                mode = _mode_behind(entry.path)
                is_folder, is_file, is_gone = stat.S_ISDIR(mode), stat.S_ISREG(mode), not mode
            else:  # known from the listing, without another system call
                is_folder, is_file, is_gone = entry.is_dir(), entry.is_file(), False
            is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
            if is_folder or (is_gone and not is_image):
                folders.append(entry.name)
            elif is_image and (is_file or is_gone):
                images.append(entry.name)
    return images, folders


def _mode_behind(link: bytes) -> int:
    """Returns st_mode of a link's target; 0 for a broken link."""
    try:
        return os.stat(link).st_mode
    except OSError:
        return 0


def _state(folder: bytes) -> tuple[tuple[int, int] | None, int]:
    """Returns a folder's identity and its modification time in nanoseconds; None, 0 if it doesn't exist."""
    try:
        status = os.stat(folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # the second is a link that leads to itself
            return None, 0
        raise
    return (status.st_dev, status.st_ino), status.st_mtime_ns


def _cache_file(folder: str) -> Path:
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError as error:
        raise InputError("There is no home folder to keep lists of images in: set HOME or XDG_CACHE_HOME.") from error
    key = hashlib.sha256(b"\0".join([os.fsencode(folder), *SUFFIXES])).hexdigest()
    return root / "convmae_det" / f"images_{key[:16]}.npz"


def _read_cache(path: Path) -> Listing | None:
    """Reads the listing in a cache file; None if it can't be read or isn't current."""
    if not os.path.exists(path):  # False also for another user's folder, where Path.exists raises
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            listing = Listing(**arrays)
        current = listing.is_current()
    except Exception as error:  # a damaged file fails in many ways
        logger.warning("%s can't be used (%s); the images are listed again.", path, error)
        return None
    if current:
        logger.info("The images are those listed in %s, since no folder has changed; delete it to list again.", path)
    return listing if current else None


def _write_cache(path: Path, listing: Listing) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            np.savez(Path(scratch, path.name), **listing._asdict())
            os.replace(Path(scratch, path.name), path)
    except OSError as error:
        logger.warning("%s can't be written (%s); the images will be listed each time.", path, error.strerror)
