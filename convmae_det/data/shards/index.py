"""Where the images lie in a tar file: found once, and kept in a cache file until the tar file changes."""

import hashlib
import itertools
import json
import logging
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import InputError
from ...files import atomic_write, find_cache_folder
from .members import Shard, ShardError

logger = logging.getLogger(__name__)

BLOCK = 512  # bytes, of which a tar file consists
# How compressed files begin.
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
# In the place of a suffix, in `left_out`.
SIBLINGS = "further images of a sample"
LINKS = "links"


class File(NamedTuple):
    """A file in a tar file.

    Attributes:
        name: with its folders
        offset, size: where its content lies, in bytes
        is_link: whether it has none, but stands for another file
    """

    name: str
    offset: int
    size: int
    is_link: bool

    @property
    def key(self) -> str:
        """What the files of a sample share: the name up to the first dot of its last part."""
        return self.name[: len(self.name) - len(self.extension)]

    @property
    def extension(self) -> str:
        """The rest of the name."""
        _, dot, rest = self.name.rpartition("/")[2].partition(".")
        return dot + rest

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1].lower()


class Index(NamedTuple):
    """The n images of a shard, in its order.

    Attributes:
        names: uint8, the names in the tar file, each terminated by a zero byte
        offsets: (n,) int64, where the contents begin, in bytes
        sizes: (n,) int64, of the contents, in bytes
        left_out: uint8, JSON: by suffix in lower case, the number of other files and the name of one
        state: (2,) int64, size and modification time of the shard
    """

    names: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    left_out: np.ndarray
    state: np.ndarray


def find_index(shard: Shard, suffixes: Sequence[str]) -> Index:
    """Finds the images of a shard, in the cache or by going through the tar file.

    Args:
        shard: as it is now
        suffixes: those of images, in lower case

    Raises:
        ShardError: see `index_shard`.
    """
    key = hashlib.sha256(b"\0".join(map(os.fsencode, [shard.path, *suffixes]))).hexdigest()
    path = find_cache_folder() / "shard_indices" / f"{key[:16]}.npz"
    index = _read_cache(path, shard)
    if index is None:
        index = index_shard(shard, suffixes)
        _write_cache(path, index)
    return index


def index_shard(shard: Shard, suffixes: Sequence[str]) -> Index:
    """Goes through a tar file, in webdataset's convention: neighbours whose names are equal up to a dot are a sample.

    The image of a sample is the file whose name has the suffix of an image behind that dot, the first if there are
    several; if there is none, every file that ends in one. Hidden files are ignored.

    Raises:
        ShardError: it is no tar file, compressed, cut, damaged, or without an image.
    """
    images: list[File] = []
    left_out: dict[str, list] = {}
    for _, files in itertools.groupby(_walk(shard), lambda file: file.key):
        sample = list(files)
        pictures = [file for file in sample if file.suffix in suffixes and not file.is_link]
        chosen = [file for file in pictures if file.extension.lower() == file.suffix][:1] or pictures
        images += chosen
        for file in sample:
            if file not in chosen:
                kind = LINKS if file.is_link else SIBLINGS if file in pictures else file.suffix
                left_out.setdefault(kind, [0, file.name])[0] += 1
    if not images:
        raise ShardError(f"{shard.path} holds no images: leave it out of DATASETS.SHARDS, or write it again")
    return Index(
        np.frombuffer(b"".join(os.fsencode(image.name) + b"\0" for image in images), np.uint8),
        np.array([image.offset for image in images], np.int64),
        np.array([image.size for image in images], np.int64),
        np.frombuffer(json.dumps(left_out).encode(), np.uint8),
        np.array(shard[1:], np.int64),
    )


def _walk(shard: Shard) -> Iterator[File]:
    """Yields the files that aren't hidden, and links."""
    try:
        with tarfile.open(shard.path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # which would grow with the file
                is_link = member.islnk() or member.issym() or member.issparse()  # the last, with holes in it
                if (member.isreg() or is_link) and not os.path.basename(member.name).startswith("."):
                    yield File(member.name, member.offset_data, member.size, is_link)
            _check_end(shard, tar.offset)
    except OSError as error:
        raise ShardError(f"{shard.path} can't be read ({error.strerror}): make it readable") from error
    except tarfile.TarError as error:
        raise ShardError(_describe(shard.path, error)) from error


def _check_end(shard: Shard, end: int) -> None:
    """Checks that nothing but zeros is left: `tarfile` ends without a word where a header is cut or damaged."""
    with open(shard.path, "rb") as file:
        file.seek(end)
        first = file.read(BLOCK)
        if len(first) < BLOCK:
            raise tarfile.ReadError("unexpected end of data")
        if any(first):
            raise tarfile.ReadError(f"no header at byte {end:,}")
        while rest := file.read(2**20):
            if any(rest):
                raise ShardError(
                    f"{shard.path} goes on behind its end, as if tar files were joined, of which programs read the "
                    "first alone: keep them apart, or unpack them and write one anew"
                )


def _describe(path: str, error: tarfile.TarError) -> str:
    with open(path, "rb") as file:
        beginning = file.read(8)
    if beginning.startswith(COMPRESSED):
        return f"{path} is compressed, in which single images can't be found: decompress it to a plain .tar"
    if "unexpected end" in str(error) or not beginning:
        return f"{path} is cut ({error}): copy or write it again"
    return f"{path} is no tar file, or damaged ({error}): copy or write it again"


def _read_cache(path: Path, shard: Shard) -> Index | None:
    """Reads an index; None if there is none of the shard as it is now."""
    if not os.path.exists(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            index = Index(**arrays)
        return index if tuple(index.state) == shard[1:] else None
    except Exception as error:  # a damaged file fails in many ways
        logger.warning("%s can't be used (%s); the shard is listed again.", path, error)
        return None


def _write_cache(path: Path, index: Index) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.savez(file, **index._asdict())
    except (OSError, InputError) as error:
        logger.warning("%s; the shard will be listed each time.", error)
