"""A file inside a tar file, which is read where it lies: no tar file is opened or unpacked for it."""

import functools
import io
import os
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from ...errors import InputError

OPEN_SHARDS = 256  # that a process keeps open; systems allow 1024 files


class ShardError(InputError):
    """A shard is missing, cut or another one than before, so that not one image but a part of the data is lost."""


class Shard(NamedTuple):
    """A tar file on this machine, as it was when its members were listed.

    Attributes:
        path: absolute
        size: in bytes
        changed: its modification time in nanoseconds
    """

    path: str
    size: int
    changed: int

    @classmethod
    def from_path(cls, path: str) -> "Shard":
        """Looks at a file.

        Raises:
            ShardError: there is none.
        """
        try:
            status = os.stat(path)
        except OSError as error:
            raise _make_error(path, error) from error
        return cls(path, status.st_size, status.st_mtime_ns)


class Member(str):
    """The name of a file in a shard, such as shards/000.tar:birds/1.jpg, which knows where its content lies.

    It can be handed on like the name of any other file; `open_content` and `measure_content` take both.
    """

    shard: Shard
    offset: int  # of the content in the shard, in bytes
    size: int  # in bytes

    def __new__(cls, name: str, shard: Shard, offset: int, size: int) -> "Member":
        self = super().__new__(cls, name)
        self.shard, self.offset, self.size = shard, offset, size
        return self

    def __getnewargs__(self) -> tuple:
        return str(self), self.shard, self.offset, self.size

    def __getstate__(self) -> None:
        """Nothing beside these arguments."""

    def read(self) -> bytes:
        """Reads the content.

        Raises:
            ShardError: the shard isn't there any more, or has changed since its members were listed.
        """
        try:
            file = _open_shard(self.shard)
            content = os.pread(file.descriptor, self.size, self.offset)
            status = os.fstat(file.descriptor)
        except OSError as error:
            raise _make_error(self.shard.path, error) from error
        if (status.st_size, status.st_mtime_ns) != self.shard[1:] or len(content) < self.size:
            raise ShardError(
                f"{self.shard.path} has changed since its images were listed: leave shards as they are during a run, "
                "and start again"
            )
        return content

    def announce(self) -> None:
        """Has the system begin to read the content, without waiting for it."""
        if hasattr(os, "posix_fadvise"):
            try:
                os.posix_fadvise(_open_shard(self.shard).descriptor, self.offset, self.size, os.POSIX_FADV_WILLNEED)
            except OSError:
                return  # to be reported when it is read


class _OpenShard:
    """A file that is closed when nobody reads it any more: another thread may, while the cache lets go of it."""

    descriptor = -1

    def __init__(self, path: str):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


@functools.lru_cache(maxsize=OPEN_SHARDS)
def _open_shard(shard: Shard) -> _OpenShard:
    return _OpenShard(shard.path)


def _make_error(path: str, error: OSError) -> ShardError:
    return ShardError(f"{path} can't be read ({error.strerror}): put the shard there, or correct DATASETS.SHARDS")


def open_content(name: str | os.PathLike) -> str | os.PathLike | BinaryIO:
    """Returns what a decoder can open: the path of a file as it is, or the content of a Member.

    Raises:
        ShardError: see `Member.read`.
    """
    return io.BytesIO(name.read()) if isinstance(name, Member) else name


def announce_contents(items: Iterable) -> None:
    """Has the system begin to read all that items, in Detectron2's format, have in shards.

    A disk or a network then works on many at once, while the first are decoded.
    """
    for item in items:
        if isinstance(item, dict) and isinstance(name := item.get("file_name"), Member):
            name.announce()


def measure_content(name: str | os.PathLike) -> int:
    """Returns the size in bytes of a file or a Member; 0 if it is neither."""
    if isinstance(name, Member):
        return name.size
    return os.path.getsize(name) if os.path.isfile(name) else 0
