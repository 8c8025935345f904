"""Files written whole or not at all: under a temporary name, then renamed. And folders, missing ones or the cache."""

import contextlib
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import InputError


def remove_temporary_files(folder: str | Path, names: Iterable[str]) -> None:
    """Removes temporary files of :func:`atomic_write` whose process was killed. No other process may write there.

    Args:
        folder: where they lie
        names: of what was to be written, or glob patterns of them
    """
    for path in (path for name in names for path in Path(folder).glob(f".{name}.*.tmp")):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def describe_missing_folder(path: str | Path) -> str:
    """Says why `path` is no folder, and what to do, as the end of a sentence; empty if it is one."""
    if os.path.isdir(path):
        return ""
    if not os.path.exists(path):
        return "doesn't exist: correct it"
    if not os.path.isfile(path):
        return "is no folder: name one"
    if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return "is an archive, not a folder: unpack it, and name the folder that it was unpacked into"
    return "is a file, not a folder: name the folder that holds it"


def find_cache_folder() -> Path:
    """Finds the folder for what can be made again; it need not exist.

    Raises:
        InputError: there is no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "convmae_det"
    except RuntimeError as error:
        raise InputError("There is no home folder to keep lists of images in: set HOME or XDG_CACHE_HOME.") from error


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a file that replaces `path` when the block succeeds, and that is deleted when it fails.

    Links are not followed: where `path` is a link, the file replaces the link, and its target is not changed.

    Raises:
        InputError: the file can't be written; names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # a new file, never the target of an existing link
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError; the system's error is its context
        system = error if isinstance(error, OSError) else error.__context__
        if str(error).startswith("DataLoader worker"):  # raised by a signal handler, anywhere in the program
            raise
        raise InputError(
            f"{path} can't be written ({getattr(system, 'strerror', None) or error}), and an earlier file there "
            "is unchanged: free disk space, or choose a folder that exists and that you may write"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: str | Path, content: Any, indent: int | None = None) -> None:
    """Writes content as JSON, whole or not at all.

    Args:
        path: of the file
        content: what JSON can hold
        indent: for people, who also see letters as they are; None: one line in ASCII, which any program reads

    Raises:
        InputError: the file can't be written.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=indent is None) + ("" if indent is None else "\n")
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # names that aren't UTF-8 become JSON's own escapes


def write_json_list(path: str | Path, entries: Iterable[Any]) -> int:
    """Writes a list as :func:`write_json` does, an entry at a time. Returns how many there were."""
    count = 0
    with atomic_write(path) as file:
        file.write(b"[")
        for count, entry in enumerate(entries, start=1):
            file.write((", " if count > 1 else "").encode() + json.dumps(entry).encode())
        file.write(b"]")
    return count
