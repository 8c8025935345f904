"""Copies, on this machine, of shards that lie in a store.

Each lies in a folder of its own, CACHE/<hash of its address>/, with copy.json, which says what the store said of the
shard when it was copied: a shard that is another one there is copied anew.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from ...errors import InputError
from ...files import atomic_write, remove_temporary_files, write_json
from .store import StoreError, ask, hide_secrets, open_store, read_pieces

logger = logging.getLogger(__name__)

THREADS = 8  # that wait for a store
# What a store may say of a file that is another one if it changes, beside the size.
MARKS = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "updated", "created")


class _Stopped(InputError):
    """Another shard can't be copied, or the user has interrupted the program."""


class Copy:
    """The copy of a remote shard on this machine."""

    def __init__(self, address: str, root: Path):
        """Takes the address, and the folder of all copies."""
        self.address, self.name = address, hide_secrets(address)
        self.folder = root / hashlib.sha256(address.encode(errors="surrogateescape")).hexdigest()[:16]
        self.path = self.folder / (self.name.rstrip("/").rpartition("/")[2] or "shard.tar")
        self.record = self.folder / "copy.json"
        self.marks: dict[str, str] = {}
        self.size: int | None = None

    def look_up(self) -> "Copy":
        """Asks the store for size and marks of the shard."""

        def find() -> dict:
            store, path = open_store(self.address)
            return store.info(path)

        info = ask(self.name, find)
        self.size = info.get("size")
        self.marks = {key: str(info[key]) for key in ("size", *MARKS) if info.get(key) is not None}
        return self

    def is_current(self) -> bool:
        """Whether there is a whole copy of the shard as it is in the store."""
        try:
            record, status = json.loads(self.record.read_text()), os.stat(self.path)
        except (OSError, ValueError):
            return False
        return record == self._describe(status)

    def _describe(self, status: os.stat_result) -> dict:
        return {"address": self.name, "store": self.marks, "copy": [status.st_size, status.st_mtime_ns]}

    def fetch(self, progress: tqdm, stop: threading.Event) -> None:
        """Copies the shard, unless another process does so meanwhile.

        Args:
            progress: gets the number of bytes
            stop: ends it early; is set if it fails, for other threads

        Raises:
            InputError: the store fails, or the disk is full.
        """
        try:
            _create_folder(self.folder)
            with _lock(self.folder / "lock"):
                if self.is_current():
                    progress.update(self.size or 0)
                    return
                remove_temporary_files(self.folder, [self.path.name])
                ask(self.name, lambda: self._copy(progress, stop))
                write_json(self.record, self._describe(os.stat(self.path)))
        except _Stopped:
            return
        except InputError:
            stop.set()
            raise

    def _copy(self, progress: tqdm, stop: threading.Event) -> None:
        done = 0
        if stop.is_set():
            raise _Stopped
        try:
            with atomic_write(self.path) as file:
                for piece in read_pieces(self.address):
                    if stop.is_set():
                        raise _Stopped
                    file.write(piece)
                    done += len(piece)
                    progress.update(len(piece))
                if self.size is not None and done != self.size:
                    raise StoreError(f"it ended after {done:,} of {self.size:,} bytes")
        except BaseException:
            progress.update(-done)
            raise


def copy_shards(name: str, addresses: Sequence[str], root: Path) -> list[str]:
    """Copies what isn't there yet; returns the paths of all copies."""
    if not addresses:
        return []
    stop = threading.Event()
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            copies = list(threads.map(lambda address: Copy(address, root).look_up(), addresses))
            missing = [copy for copy in copies if not copy.is_current()]
            total = sum(copy.size or 0 for copy in missing)
            if missing:
                _check_space(name, total, root)
                logger.info(
                    f"{name}: copying {len(missing):,} of {len(copies):,} shards, {total / 1e9:.2f} GB, to {root}"
                )
                often = 0.1 if sys.stderr.isatty() else 60  # seconds
                with tqdm(total=total, unit="B", unit_scale=True, desc=name, delay=1, mininterval=often) as progress:
                    list(threads.map(lambda copy: copy.fetch(progress, stop), missing))
        finally:
            stop.set()
    return [str(copy.path) for copy in copies]


def _check_space(name: str, needed: int, root: Path) -> None:
    _create_folder(root)
    free = shutil.disk_usage(root).free
    if needed > free:
        raise InputError(
            f"The shards of {name} need {needed / 1e9:.2f} GB in {root}, whose disk has {free / 1e9:.2f} GB left, and "
            "training reads all of them: free space, or let DATASETS.SHARD_CACHE name a folder on a larger disk."
        )


def _create_folder(folder: Path) -> None:
    with _report_cache(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Waits for other processes that hold the lock; on file systems without locks, for nothing."""
    with _report_cache(path):
        file = path.open("w")
    with file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _report_cache(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} can't be written ({error.strerror}): let DATASETS.SHARD_CACHE name a folder that you may write"
        ) from error
