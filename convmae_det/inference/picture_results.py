"""What is found in files, in a folder: parts that a run can go on from, results merged of them, pictures."""

import csv
import hashlib
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from .. import __version__
from ..errors import InputError
from ..files import atomic_write
from ..precision import format_dtype
from ..visualization.predictions import draw_overview, shrink_panel
from ..visualization.sheet import save_png
from .inputs import Input
from .parts import MARK, Attempt, Parts
from .processes import Processes

OVERVIEW = 12  # images
PARTS = "parts"
# Keys of a configuration on which results don't depend, except for rounding.
NO_MATTER = ["MODEL.DEVICE", "", "MODEL.WEIGHTS", "", "OUTPUT_DIR", "", "DATALOADER.NUM_WORKERS", 0]


class PictureResults:
    """The folder that results are written to, by one process or several.

    Attributes:
        result_names: what is written by names that others' files may have
        titles: of the panels on the overview
        inputs: images, then videos; known by their places here
        failures: number of inputs that could not be read, or not to their end
        missing: number of inputs that no process came to the end of; both are known once all is written
    """

    result_names: Sequence[str] = ()
    titles: Sequence[str] = ()

    def __init__(self, folder: str | Path, predictor: Any, pictures: bool = True):
        """Makes the folder.

        Args:
            predictor: with cfg, model and precision
            pictures: whether images are drawn

        Raises:
            InputError: it can't be made.
        """
        self.folder, self.predictor, self.pictures = Path(folder), predictor, pictures
        self.failures = self.missing = 0
        self._kept = 0  # panels
        make_folder(self.folder)

    def begin(self, inputs: Sequence[Input], options: Mapping[str, Any], processes: Processes, resume: bool) -> None:
        """Begins a run, or goes on with an earlier one of the same network, inputs and options.

        Args:
            inputs: of all processes
            options: those on which results depend, by name
            processes: that share the inputs
            resume: whether parts of another network, or with other inputs or options, are an error

        Raises:
            InputError: they are, the folder can't be written to, or the processes don't see the same.
        """
        self.inputs = sorted(inputs, key=lambda entry: entry.is_video)
        if processes.is_first and not (self.folder / PARTS).is_dir() and not self.is_own():
            self._check_replaceable()
        self.processes, self.parts = processes, Parts(self.folder / PARTS, self.inputs)
        names = "\0".join(entry.file_name for entry in self.inputs)
        network = describe_network(self.predictor)
        what = {MARK: __version__, **network, **options, "inputs": _digest([names])}
        plan = processes.ask_first(lambda: self.parts.prepare(what, resume) | {"settings": what})
        if other := [name for name, value in what.items() if plan["settings"].get(name) != value]:
            raise InputError(
                f"process {processes.rank} differs from the first in {', '.join(other)}: let all machines see the same "
                "files, and give them the same command"
            )
        self.parts.open(plan["run"], processes.rank)
        self._todo = plan["todo"]
        done = len(self.inputs) - len(self._todo)
        if done and processes.is_first:
            print(f"{done:,} of {len(self.inputs):,} inputs are done already: {self.parts.folder}", file=sys.stderr)

    def is_own(self) -> bool:
        """Whether the folder holds the results of an earlier run."""
        return False

    def _check_replaceable(self) -> None:
        for name in self.result_names:
            path = self.folder / name
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                where = f"--output {self.folder} holds {name}"
                raise InputError(f"{where}, which predict didn't write: name another folder")

    def take(self, videos: bool = False) -> Iterator[tuple[int, Input]]:
        """Yields the images, or the videos, that this process is to do, with their numbers."""
        numbers = [number for number in self._todo if self.inputs[number].is_video == videos]
        for number in self.processes.share(f"videos {videos}", numbers):
            yield number, self.inputs[number]

    def show_progress(self) -> tqdm:
        """Shows how far all processes are with the images, in the first of them; :meth:`advance` moves it on."""
        total = sum(not self.inputs[number].is_video for number in self._todo)
        return tqdm(total=total, unit=" images", disable=None if self.processes.is_first else True)

    def advance(self, progress: tqdm) -> None:
        if not progress.disable:
            progress.update(min(self.processes.count_given("videos False"), progress.total) - progress.n)

    def save_picture(self, entry: Input, drawn: np.ndarray) -> None:
        """Writes the picture of an image, (h, w, 3) uint8 RGB."""
        with atomic_write(self.make_path(entry, ".jpg")) as file:
            Image.fromarray(drawn).save(file, format="JPEG", quality=92, subsampling=0)

    def make_path(self, entry: Input, suffix: str, folder: str = "") -> Path:
        """Returns the path for a file that is made of an input, and makes its folder."""
        path = self.folder / folder / f"{entry.output_name}{suffix}"
        make_folder(path.parent)
        return path

    def keep_panels(self, panels: Sequence[np.ndarray], number: int, frame: int | None = None) -> None:
        """Keeps what the overview may show of an image, or of a frame of a video: the first few of each process."""
        if self._kept < OVERVIEW:
            name = f"{number:08d}" if frame is None else f"{number:08d}_{frame:08d}"
            self.parts.save_panels(name, [shrink_panel(panel) for panel in panels])
            self._kept += 1

    def skip(self, number: int, error: InputError, what: str = "skipped") -> None:
        """Records that an input is left out, or that a part of it is, and prints why."""
        tqdm.write(f"{what}: {error}", file=sys.stderr)
        self.parts.end(number, str(error))

    def write(self) -> str:
        """Merges the parts of all processes into results, and removes them if every input could be read to its end.

        Returns:
            What to print for the user.
        """
        self.parts.close()
        attempts = self.parts.find_attempts()
        self.failures = sum(attempt.failure is not None for attempt in attempts.values())
        self.missing = len(self.inputs) - sum(attempt.ended for attempt in attempts.values())
        told = self.merge(attempts) + self._write_overview()
        if not self.failures and not self.missing:
            self.parts.remove()
        return told

    def merge(self, attempts: Mapping[int, Attempt]) -> str:
        """Writes what was found. Returns what to print for the user."""
        raise NotImplementedError

    def write_table(self, path: Path, header: Sequence[str], attempts: Mapping[int, Attempt]) -> None:
        """Writes a CSV file of all rows that were found, with the names of their images before them."""
        with atomic_write(path) as file:
            text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
            csv.writer(text, lineterminator="\n").writerows(self._list_rows(header, attempts))
            text.flush()
            text.detach()

    def _list_rows(self, header: Sequence[str], attempts: Mapping[int, Attempt]) -> Iterator[Sequence[str]]:
        yield ["path", *header]
        for number in sorted(attempts):
            yield from ([self.inputs[number].file_name, *row] for row in self.parts.read(attempts[number]))

    def _write_overview(self) -> str:
        """Writes overview.png, if pictures were drawn. Returns what to print of it."""
        panels, names = [], []
        for name, pictures in self.parts.load_panels(OVERVIEW):
            number, _, frame = name.partition("_")
            file_name = self.inputs[int(number)].file_name
            names.append(f"{file_name}, frame {int(frame)}" if frame else file_name)
            panels.append(pictures)
        if not panels:
            return ""
        overview = self.folder / "overview.png"
        save_png(draw_overview(panels, names, self.titles), overview)
        return f"\nDrawn in {self.folder}, the first {len(panels)} on {overview}"


def describe_network(predictor: Any) -> dict[str, str]:
    """Describes what results depend on beside images and options, in few words that differ where it does."""
    cfg = predictor.cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(NO_MATTER)
    weights = (part for name, tensor in sorted(predictor.model.state_dict().items()) for part in (name, tensor))
    described = {"configuration": _digest([cfg.dump()]), "weights": _digest(weights)}
    return described | {"precision": format_dtype(predictor.precision.dtype)}


def begins_with(path: Path, text: str) -> bool:
    """Whether a file is there, and begins with a text."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().startswith(text)
    except (OSError, ValueError):
        return False


def _digest(parts: Iterable[str | torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode("utf-8", "surrogateescape"))
        else:
            digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def make_folder(path: Path) -> None:
    """Makes the folder of results, or one in it.

    Raises:
        InputError: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} can't be made ({error.strerror}): choose another --output") from error
