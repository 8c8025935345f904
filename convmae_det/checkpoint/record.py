"""The record of a run: which files of weights in its folder it wrote, so that users' own are left alone.

It is a text file in OUTPUT_DIR with a line for each file written: a fingerprint of its content, and its name. A file
is the run's only if both agree, so that what a user puts in its place is not; in a copy of the folder they still do.
"""

import hashlib
import os
from pathlib import Path

RECORD = "run_files.txt"
TAIL = 2**20  # bytes: the end of a checkpoint, which contains checksums of all that comes before


def begin_record(folder: str | Path) -> None:
    """Makes the record of a folder where a run begins or goes on, unless there is one."""
    Path(folder, RECORD).touch()


def has_record(folder: str | Path) -> bool:
    """Whether a run has begun in the folder."""
    return Path(folder, RECORD).is_file()


def record_file(path: str | Path, name: str | Path) -> None:
    """Notes that a run wrote the file at `path`, which is about to be renamed to `name`."""
    name = Path(name)
    with (name.parent / RECORD).open("a", encoding="utf-8") as file:
        file.write(f"{compute_fingerprint(path)} {name.name}\n")


def is_recorded(path: str | Path) -> bool:
    """Whether a run wrote this file, by name and content."""
    path = Path(path)
    try:
        lines = (path.parent / RECORD).read_text(encoding="utf-8").splitlines()
        return f"{compute_fingerprint(path)} {path.name}" in lines
    except OSError:
        return False


def compute_fingerprint(path: str | Path) -> str:
    """Computes the SHA-256 of a file's size and end."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        return hashlib.sha256(b"%d " % size + file.read()).hexdigest()
