"""Writing a folder of images as tar shards, the same bytes each time; interrupted, it goes on where it was."""

import hashlib
import io
import itertools
import json
import logging
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ...errors import InputError
from ...files import atomic_write, describe_missing_folder, remove_temporary_files, write_json
from ..pretraining.folders import ImageFiles, list_images
from ..stream import count_cores
from .pictures import Picture, read_picture

logger = logging.getLogger(__name__)

ACCOUNT = "shards.json"


class Packing(NamedTuple):
    """How images become shards.

    Attributes:
        shard_bytes: a shard ends with the image that reaches this size
        shard_images: or with this many images; 0: any number
        short_side: pixels that the shorter side of larger images is reduced to; 0: images stay as they are
        max_pixels: height · width of the largest image
    """

    shard_bytes: int
    shard_images: int
    short_side: int
    max_pixels: int


@dataclass
class Account:
    """What has been written so far, kept in the folder of the shards.

    Attributes:
        source: what the shards are made of: the number of images, a hash of their names, and the Packing
        shards: names of the tar files
        images: in them
        size: of them, in bytes
        done: number of images of the source that they cover, or that were left out
        left_out: names and reasons of those that can't be read
    """

    source: dict[str, Any]
    shards: list[str] = field(default_factory=list)
    images: int = 0
    size: int = 0
    done: int = 0
    left_out: list[list[str]] = field(default_factory=list)


def write_shards(folder: str, output: str, packing: Packing) -> Account:
    """Writes the images of a folder, and of the folders in it, as tar files, arrays of bands (.npy) among them.

    They have the order of `list_images` and their names, except that dots become underscores before the suffix: what
    precedes the first dot is the key of a sample, and each image is one. An image that can't be read is left out, and
    logged. Shards are whole or not there; with the same arguments, a run that was interrupted goes on.

    Raises:
        InputError: no such folder, no images, none that can be read, an output folder that holds something else, or a
            file that can't be written.
    """
    if problem := describe_missing_folder(folder):
        raise InputError(f"{folder} {problem}.")
    root = os.path.realpath(folder)
    files = list_images(root, arrays=True)
    source = {"images": len(files), "names": _hash_names(files, root), **packing._asdict()}
    account = _open_account(Path(output), source)
    keys = list(_name_keys(root, (file["file_name"] for file in files)))

    def read(index: int) -> Picture:
        return read_picture(index, files[index]["file_name"], keys[index], packing.short_side, packing.max_pixels)

    cores = count_cores()
    with ThreadPoolExecutor(cores) as threads, tqdm(total=len(files), unit=" images", disable=None) as progress:
        progress.update(account.done)
        pictures = _read_ahead(threads, read, range(account.done, len(files)), 4 * cores)
        readable = _leave_out(pictures, account, progress)
        while (first := next(readable, None)) is not None:
            _write_next_shard(Path(output), first, readable, packing, account)
    if not account.images:
        first_error = account.left_out[0][1]
        raise InputError(f"None of the {len(files):,} images in {folder} can be read; the first: {first_error}")
    write_json(Path(output) / ACCOUNT, asdict(account), indent=1)
    return account


def _hash_names(files: ImageFiles, root: str) -> str:
    names = (os.fsencode(os.path.relpath(file["file_name"], root)) for file in files)
    return hashlib.sha256(b"\0".join(names)).hexdigest()


def _open_account(output: Path, source: dict[str, Any]) -> Account:
    """Reads the account of an interrupted run, or begins one in a folder that is new or empty."""
    path = output / ACCOUNT
    if path.exists():
        try:
            account = Account(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} can't be read ({error}): name another folder") from error
        if account.source != source:
            raise InputError(f"{output} holds shards of other images, or written with other options: name a new folder")
        remove_temporary_files(output, ["*.tar", ACCOUNT])
        return account
    if output.exists() and (problem := describe_missing_folder(output)):
        raise InputError(f"{output} {problem}.")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} holds files already: name a new folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output} can't be made ({error.strerror}): name a folder that you may write") from error
    account = Account(source)
    write_json(path, asdict(account), indent=1)
    return account


def _name_keys(root: str, names: Iterable[str]) -> Iterator[str]:
    """Yields names below `root` without suffixes, and without dots in their last part, each another one."""
    place, taken = None, set[str]()
    for name in names:
        parent, base = os.path.split(os.path.relpath(name, root))
        if parent != place:
            place, taken = parent, set()
        stem = key = os.path.splitext(base)[0].replace(".", "_")
        number = 2
        while key in taken:
            key, number = f"{stem}_{number}", number + 1
        taken.add(key)
        yield os.path.join(parent, key)


def _read_ahead(
    threads: ThreadPoolExecutor, read: Callable[[int], Picture], indices: Iterable[int], most: int
) -> Iterator[Picture]:
    """Reads in order, like `threads.map`, but at most so many pictures ahead, for memory's sake."""
    waiting: deque[Future[Picture]] = deque()
    try:
        for index in indices:
            waiting.append(threads.submit(read, index))
            if len(waiting) == most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _leave_out(pictures: Iterable[Picture], account: Account, progress: tqdm) -> Iterator[Picture]:
    """Yields the pictures that can be read; the others are logged."""
    for picture in pictures:
        progress.update()
        account.done = picture.index + 1
        if not picture.error:
            yield picture
            continue
        logger.warning("Left out: %s", picture.error)
        account.left_out.append([picture.name, picture.error])


def _write_next_shard(
    output: Path, first: Picture, pictures: Iterator[Picture], packing: Packing, account: Account
) -> None:
    path = output / f"{len(account.shards):06}.tar"
    if path.exists():
        raise InputError(f"{path} is there already, but not in {ACCOUNT}: move it away")
    count = 0
    names = {"format": tarfile.GNU_FORMAT, "encoding": "utf-8", "errors": "surrogateescape"}
    with atomic_write(path) as file:
        with tarfile.open(fileobj=file, mode="w", **names) as tar:
            for picture in itertools.chain([first], pictures):
                entry = tarfile.TarInfo(picture.name)  # whose time and owner are zero
                entry.size = len(picture.content)
                tar.addfile(entry, io.BytesIO(picture.content))
                count += 1
                if tar.offset >= packing.shard_bytes or count == packing.shard_images:
                    break
        account.size += file.tell()
    account.shards.append(path.name)
    account.images += count
    write_json(output / ACCOUNT, asdict(account), indent=1)
