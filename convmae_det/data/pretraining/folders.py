"""Folders of images without labels, as data sets of Detectron2.

A folder is listed once. The list is kept in a cache file outside the folder, and is valid until a folder in it changes.
"""

import errno
import hashlib
import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ...errors import InputError
from ...files import describe_missing_folder, find_cache_folder
from ..file_kinds import NOT_READ, list_suffixes
from .registration import register_sources

logger = logging.getLogger(__name__)

# A name without a suffix is that of an image if the content is in one of these formats.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")

# Nanoseconds. The coarsest file systems store times in steps of two seconds, so a file may still be added to a folder
# that changed this recently without a change of its time.
SETTLED = 2 * 10**9

MOST_KINDS = 8  # suffixes of files that are left out, named in a sentence


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
        return cls(_pack_paths(os.fsencode(name) + b"\0" for name in names))

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
    left_out: np.ndarray  # uint8, JSON: by suffix in lower case, the number of other files and the path of one

    def is_current(self) -> bool:
        """Whether no file has been added or removed since; both change the modification time of its folder."""
        folders = self.folders.tobytes().split(b"\0")[:-1]
        return all(_read_state(folder)[1] == changed for folder, changed in zip(folders, self.times, strict=True))


def register_image_folders(folders: Sequence[Sequence[str]]) -> None:
    """Registers folders of images, flat or nested, as data sets of Detectron2.

    Args:
        folders: pairs of name and path, as in DATASETS.IMAGE_FOLDERS. A name that was registered here before, for
            another folder, now stands for the new one.

    Raises:
        InputError: an entry that isn't such a pair, no such folder, or a name used twice or by another data set.
    """
    register_sources("DATASETS.IMAGE_FOLDERS", "image_folder", _find_folders(folders), _load_dicts)


def _find_folders(folders: Sequence[Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yields the names and the paths without links of folders that exist."""
    for entry in folders:
        if not (isinstance(entry, (list, tuple)) and len(entry) == 2 and all(isinstance(x, str) and x for x in entry)):
            raise InputError(f"DATASETS.IMAGE_FOLDERS holds {entry!r}: make it a list of pairs, [[name, folder], ...].")
        name, folder = entry[0], os.path.realpath(os.path.expanduser(entry[1]))
        if problem := describe_missing_folder(folder):
            raise InputError(f"{entry[1]}, the folder of {name} in DATASETS.IMAGE_FOLDERS, {problem}.")
        yield name, folder


def list_images(folder: str, arrays: bool = False) -> ImageFiles:
    """Lists the images in a folder and all folders in it, in an order that depends on their names alone.

    Links are followed, but no folder is entered twice. Hidden files and folders are ignored. The suffix decides what
    is an image, and the content where there is none. Only regular files count, not pipes or devices. What is left out
    is logged.

    Args:
        folder: absolute path without links
        arrays: whether .npy files are images, too

    Raises:
        InputError: there are none, or a folder can't be read.
    """
    suffixes = tuple(map(os.fsencode, list_suffixes(arrays)))
    cache = _find_cache_file(folder, suffixes)
    listing = _read_cache(cache)
    if listing is None:
        start = time.time_ns()
        try:
            listing = _walk(folder, suffixes)
        except OSError as error:
            path = os.fsdecode(error.filename)
            raise InputError(f"{path} can't be read ({error.strerror}): make it readable or move it away.") from error
        if listing.times.max() < start - SETTLED:
            _write_cache(cache, listing)
    left_out = json.loads(listing.left_out.tobytes())
    others = describe_left_out(left_out)
    if not len(listing.files):
        endings = b", ".join(suffixes).decode()
        found = f" It has {others}." if others else ""
        raise InputError(f"{folder} holds no images: name a folder with files that end in {endings}.{found}")
    if others:
        level = logging.WARNING if left_out.keys() & NOT_READ.keys() else logging.INFO
        logger.log(level, "%s: left out %s.", folder, others)
    return ImageFiles(listing.files)


def describe_left_out(left_out: Mapping[str, Sequence]) -> str:
    """Describes files that are no images: how many, an example, and the reason.

    Args:
        left_out: by suffix, the number of files and the path of one
    """
    kinds = [suffix for suffix in left_out if suffix in NOT_READ]
    parts = [f"{left_out[kind][0]:,} {kind}, such as {left_out[kind][1]} ({NOT_READ[kind]})" for kind in kinds]
    if rest := [suffix for suffix in left_out if suffix not in NOT_READ]:
        count = sum(left_out[suffix][0] for suffix in rest)
        kinds = ", ".join(suffix or "without a suffix" for suffix in rest[:MOST_KINDS])
        kinds += ", …" if len(rest) > MOST_KINDS else ""
        parts.append(f"{count:,} that are no images ({kinds}), such as {left_out[rest[0]][1]}")
    return "; ".join(parts)


def _load_dicts(folder: str) -> list[dict]:
    return list(list_images(folder))


def _pack_paths(paths: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(bytearray(b"".join(paths)), dtype=np.uint8)


def _walk(folder: str, suffixes: tuple[bytes, ...]) -> Listing:
    files, folders, times, entered = [], [], [], set()
    left_out: dict[str, list] = {}
    waiting = [os.fsencode(folder)]  # bytes, since a name need not be text
    with tqdm(desc=f"Listing {folder}", unit=" files", delay=1, disable=None) as progress:
        while waiting:
            path = waiting.pop()
            identity, changed = _read_state(path)  # read before the content, so that a later change is noticed
            folders.append(path + b"\0")
            times.append(changed)
            if identity is None or identity in entered:
                continue
            entered.add(identity)
            images, inner, others = _list_folder(path, suffixes, progress)
            for name in sorted(others):
                suffix = os.fsdecode(os.path.splitext(name)[1].lower())
                left_out.setdefault(suffix, [0, os.fsdecode(os.path.join(path, name))])[0] += 1
            files.append(b"".join(os.path.join(path, name) + b"\0" for name in sorted(images)))
            waiting += (os.path.join(path, name) for name in sorted(inner, reverse=True))
    others = np.frombuffer(json.dumps(left_out).encode(), np.uint8)
    return Listing(_pack_paths(files), _pack_paths(folders), np.array(times, dtype=np.int64), others)


def _list_folder(
    folder: bytes, suffixes: tuple[bytes, ...], progress: tqdm
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Lists the names of the images, of the folders and of the other files in a folder.

    A broken link counts as an image if it has the suffix of one, to be reported when it can't be read, else as a
    folder: its target may be mounted the next time. Pipes, sockets and devices are ignored, whatever their name:
    opening one may block forever.
    """
    images, folders, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            progress.update()
            if entry.name.startswith(b"."):
                continue
            if entry.is_symlink():
                mode = _read_target_mode(entry.path)
                is_folder, is_file, is_gone = stat.S_ISDIR(mode), stat.S_ISREG(mode), not mode
            else:  # known from the listing, without another system call
                is_folder, is_file, is_gone = entry.is_dir(), entry.is_file(), False
            suffix = os.path.splitext(entry.name)[1].lower()
            is_image = suffix in suffixes or (not suffix and is_file and _holds_image(entry.path))
            if is_folder or (is_gone and not is_image):
                folders.append(entry.name)
            elif is_image and (is_file or is_gone):
                images.append(entry.name)
            elif is_file:
                others.append(entry.name)
    return images, folders, others


def _holds_image(path: bytes) -> bool:
    """Whether a file begins as an image does."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Image.DecompressionBombError:
        return True  # to be reported when it is read
    except Exception:
        return False


def _read_target_mode(link: bytes) -> int:
    """Returns st_mode of a link's target; 0 for a broken link."""
    try:
        return os.stat(link).st_mode
    except OSError:
        return 0


def _read_state(folder: bytes) -> tuple[tuple[int, int] | None, int]:
    """Returns a folder's identity and its modification time in nanoseconds; None, 0 if it doesn't exist."""
    try:
        status = os.stat(folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # the second is a link that leads to itself
            return None, 0
        raise
    return (status.st_dev, status.st_ino), status.st_mtime_ns


def _find_cache_file(folder: str, suffixes: tuple[bytes, ...]) -> Path:
    key = hashlib.sha256(b"\0".join([os.fsencode(folder), *suffixes, b"left out"])).hexdigest()
    return find_cache_folder() / f"images_{key[:16]}.npz"


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
