r"""What was found so far, in files that a run appends to: from them it goes on, and of them its results are made.

OUTPUT/parts/
    settings.json    what the results depend on: a run goes on with the same alone
    001_00000.jsonl  written by the first process of the first run; 002_00001.jsonl by the second one of the second run:
                     {"input": 3, "image": 0}\t[what was found]      for each image, and each frame of a video
                     {"input": 3, "images": 1, "state": [size, time]}    at the end of an input; with "failure": why
                                                                         not all of it could be read
    00000003.npz     pictures for the overview

A process that dies leaves at most its last line incomplete, which nobody reads.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..errors import InputError
from ..files import atomic_write, write_json
from .inputs import Input

SETTINGS = "settings.json"
MARK = "version"  # a setting that all runs have
OWN = (SETTINGS, r"\d{3,}_\d{5,}\.jsonl", r"\d{8,}(_\d{8,})?\.npz", r"\..+\.\d+\.tmp")  # names of the files here


class Attempt(NamedTuple):
    """What one process came to with an input.

    Attributes:
        path: of the file
        start: of its lines there, in bytes
        images: how many there are, frames counted
        ended: whether it came to the end of the input
        failure: why not all of it could be read; None if it could
    """

    path: Path
    start: int
    images: int
    ended: bool = False
    failure: str | None = None

    @property
    def is_whole(self) -> bool:
        return self.ended and self.failure is None


class Parts:
    """The folder of the parts, to which this process adds its own."""

    def __init__(self, folder: Path, inputs: Sequence[Input]):
        """`inputs` are known by their places in the sequence."""
        self.folder, self.inputs = folder, inputs
        self._file: BinaryIO | None = None
        self._images = 0  # of the input at hand

    def prepare(self, settings: Mapping[str, Any], resume: bool) -> dict:
        """Makes the folder, or looks at what an earlier run left there, which is kept if its settings were the same.

        Args:
            settings: what the results depend on
            resume: whether results of other settings are an error; else they are removed

        Returns:
            "run", the number of this run, and "todo", the inputs that are left to it

        Raises:
            InputError: they are an error, or the folder can't be used.
        """
        earlier = self._read_settings()
        other = [name for name in settings if earlier and earlier.get(name) != settings[name]]
        if other and resume:
            raise InputError(
                f"{self.folder} holds results of a run that differs in {', '.join(other)}: leave --resume out to "
                "discard them, or choose another --output"
            )
        if other:
            self.remove()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder} can't be made ({error.strerror}): choose another --output") from error
        write_json(self.folder / SETTINGS, settings, indent=1)
        attempts = self.find_attempts()
        runs = [int(path.name.partition("_")[0]) for path in self._list_files()]
        todo = [number for number, entry in enumerate(self.inputs) if not _is_done(entry, attempts.get(number))]
        return {"run": max(runs, default=0) + 1, "todo": todo}

    def _read_settings(self) -> dict | None:
        """Reads the settings of the run that left the folder; None if there is none."""
        path = self.folder / SETTINGS
        names = [path.name for path in _list(self.folder) if path.suffix != ".tmp"]
        with contextlib.suppress(OSError, ValueError):
            if isinstance(settings := json.loads(path.read_bytes()), dict) and MARK in settings:
                return settings
        if names:
            raise InputError(f"{self.folder / names[0]} is none that predict has written: choose another --output")
        return None

    def open(self, run: int, rank: int) -> None:
        """Opens the file of this process."""
        path = self.folder / f"{run:03d}_{rank:05d}.jsonl"
        try:
            self._file = path.open("xb")
        except OSError as error:
            advice = "is another predict running with this --output?"
            raise InputError(f"{path} can't be made ({error.strerror}): {advice}") from error

    def add(self, number: int, found: Any) -> None:
        """Records what was found in an image, or in the next frame of a video, of an input."""
        self._write({"input": number, "image": self._images}, found)
        self._images += 1

    def end(self, number: int, failure: str | None = None) -> None:
        """Records that an input is done or, with a `failure`, that there is no more of it that can be read."""
        header = {"input": number, "images": self._images, "state": _read_state(self.inputs[number])}
        self._write(header if failure is None else header | {"failure": failure})
        self._images = 0

    def _write(self, header: dict, *values: Any) -> None:
        assert self._file is not None
        line = "\t".join(json.dumps(value) for value in (header, *values)) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"{self._file.name} can't be written ({error.strerror}): free disk space, and go on with --resume"
            ) from error

    def close(self) -> None:
        """Closes the file of this process.

        Raises:
            InputError: another run has removed it.
        """
        if self._file is not None:
            with contextlib.suppress(OSError):  # of what was said already
                self._file.close()
            if not os.path.exists(self._file.name):
                raise InputError(
                    f"{self._file.name} is gone: another predict with this --output has ended, or has begun anew; its "
                    "results are there"
                )

    def find_attempts(self) -> dict[int, Attempt]:
        """Finds what is there of each input, by its number: what is whole, else what is longest, the latest of such.

        What was found in a file that has changed since is left out.
        """
        best: dict[int, Attempt] = {}
        for path in self._list_files():
            for number, attempt in self._read_attempts(path):
                other = best.get(number)
                if other is None or (attempt.is_whole, attempt.images) >= (other.is_whole, other.images):
                    best[number] = attempt
        return best

    def _list_files(self) -> list[Path]:
        return sorted(path for path in _list(self.folder) if path.suffix == ".jsonl")

    def _read_attempts(self, path: Path) -> Iterator[tuple[int, Attempt]]:
        number, attempt = -1, Attempt(path, 0, 0)
        for start, header, _ in _read_lines(path):
            if header.get("image") == 0 or header.get("images") == 0:
                if attempt.images and not attempt.ended:  # of a video that was interrupted
                    yield number, attempt
                number, attempt = header["input"], Attempt(path, start, 0)
            if "image" in header:
                attempt = attempt._replace(images=header["image"] + 1)
            else:
                attempt = attempt._replace(ended=True, failure=header.get("failure"))
                if header["state"] == _read_state(self.inputs[number]):
                    yield number, attempt
        if attempt.images and not attempt.ended:
            yield number, attempt

    def read(self, attempt: Attempt) -> Iterator[Any]:
        """Reads what was found in the images of an input, in their order.

        Raises:
            InputError: the file is damaged.
        """
        for _, (header, text) in zip(range(attempt.images), _read_from(attempt), strict=False):
            try:
                yield json.loads(text)
            except ValueError as error:
                raise InputError(
                    f"{attempt.path} is damaged at input {header['input']}: delete it, and go on with --resume"
                ) from error

    def save_panels(self, name: str, panels: Sequence[np.ndarray]) -> None:
        """Saves panels, each (h, w, 3) uint8, for the overview; they are loaded in the order of their names."""
        with atomic_write(self.folder / f"{name}.npz") as file:
            np.savez(file, *panels)

    def load_panels(self, most: int) -> Iterator[tuple[str, list[np.ndarray]]]:
        """Loads the first `most` of them, with their names."""
        paths = sorted(path for path in _list(self.folder) if path.suffix == ".npz")
        for path in paths[:most]:
            with np.load(path, allow_pickle=False) as file:
                yield path.stem, list(file.values())

    def remove(self) -> None:
        """Removes the parts, and nothing else that may be in their folder."""
        for path in _list(self.folder):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _list(folder: Path) -> list[Path]:
    """Lists the files of a run in the folder of its parts."""
    names = os.listdir(folder) if folder.is_dir() else ()
    return [folder / name for name in names if any(re.fullmatch(pattern, name) for pattern in OWN)]


def _is_done(entry: Input, attempt: Attempt | None) -> bool:
    """Whether a run that goes on has nothing to do with an input; a webcam shows something new."""
    return attempt is not None and attempt.is_whole and isinstance(entry.source, str)


def _read_lines(path: Path, start: int = 0) -> Iterator[tuple[int, dict, bytes]]:
    """Yields place, header and the rest of each whole line."""
    with path.open("rb") as file:
        file.seek(start)
        while (line := file.readline()).endswith(b"\n"):
            header, _, text = line.partition(b"\t")
            try:
                yield start, json.loads(header), text
            except ValueError:  # as a machine may leave it that lost its power
                return
            start += len(line)


def _read_from(attempt: Attempt) -> Iterator[tuple[dict, bytes]]:
    return ((header, text) for _, header, text in _read_lines(attempt.path, attempt.start))


def _read_state(entry: Input) -> list[int] | None:
    """Reads size and time of change of a file; None of a webcam, or if there is none."""
    if isinstance(entry.source, str):
        with contextlib.suppress(OSError):
            found = os.stat(entry.source)
            return [found.st_size, found.st_mtime_ns]
    return None
