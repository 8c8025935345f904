"""Runs a classifier on files: a table of the classes found, and pictures of them, in a folder."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_write
from ..visualization.classes import draw_classes
from ..visualization.predictions import draw_overview
from ..visualization.sheet import save_png
from .class_predictor import ClassPredictor
from .inputs import Input
from .results import OVERVIEW, make_folder

FEW = 5  # classes of an image in the table,
DRAWN = 3  # and in a picture
TABLE = "results.csv"


class ClassResults:
    """The classes that are found, and the folder that they are written to.

    Attributes:
        rows: of the table
        failures: number of inputs that could not be read
    """

    def __init__(self, folder: str | Path, predictor: ClassPredictor, pictures: bool = True):
        """Makes the folder.

        Raises:
            InputError: it can't be made.
        """
        self.folder, self.predictor, self.pictures = Path(folder), predictor, pictures
        self.few = min(FEW, len(predictor.class_names))
        self.rows: list[list[str]] = []
        self.failures = 0
        self._panels, self._names = [], []  # of the overview
        make_folder(self.folder)

    def add(self, entry: Input, scores: torch.Tensor) -> None:
        """Records the scores of an image, (classes,), and draws those that are highest."""
        names = self.predictor.class_names
        values, indices = (part.tolist() for part in scores.topk(self.few))
        found = [(index, names[index], value) for index, value in zip(indices, values, strict=True)]
        cells = [cell for _, name, value in found for cell in (name, f"{value:.6f}")]
        self.rows.append([entry.file_name, *cells])
        if not self.pictures:
            return
        drawn = draw_classes(self.predictor.load_visible(str(entry.source)), found[:DRAWN])
        path = self.folder / f"{entry.output_name}.jpg"
        make_folder(path.parent)
        with atomic_write(path) as file:
            Image.fromarray(drawn).save(file, format="JPEG", quality=92, subsampling=0)
        if len(self._panels) < OVERVIEW:
            self._panels.append([drawn])
            self._names.append(entry.file_name)

    def skip(self, error: InputError) -> None:
        """Counts an input that is left out, and prints why."""
        tqdm.write(f"skipped: {error}", file=sys.stderr)
        self.failures += 1

    def write(self) -> str:
        """Writes TABLE and, if pictures were drawn, overview.png.

        Returns:
            What to print for the user.
        """
        others = [f"{what}_{rank}" for rank in range(2, self.few + 1) for what in ("class", "score")]
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([["path", "class", "score", *others], *self.rows])
        with atomic_write(self.folder / TABLE) as file:
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))
        told = f"{len(self.rows):,} images: {self.folder / TABLE}"
        if self._panels:
            overview = self.folder / "overview.png"
            save_png(draw_overview(self._panels, self._names, ("classes and scores",)), overview)
            told += f"\nDrawn in {self.folder}, the first {len(self._panels)} on {overview}"
        return told


def predict_classes(inputs: Sequence[Input], results: ClassResults, batch_size: int = 1) -> None:
    """Finds the classes of all images, with progress. Unreadable inputs, and videos, are skipped."""
    waiting: list[tuple[Input, torch.Tensor]] = []
    with tqdm(total=len(inputs), unit=" images", disable=None) as progress:
        for image in _read(inputs, results, progress):
            waiting.append(image)
            if len(waiting) == batch_size:
                _run(waiting, results, progress)
        if waiting:
            _run(waiting, results, progress)


def _read(inputs: Sequence[Input], results: ClassResults, progress: tqdm) -> Iterator[tuple[Input, torch.Tensor]]:
    for entry in inputs:
        try:
            if entry.is_video:
                raise InputError(f"{entry.file_name} is a video, of which no class is found: extract its frames")
            yield entry, results.predictor.prepare(str(entry.source))
        except InputError as error:
            results.skip(error)
            progress.update()


def _run(waiting: list[tuple[Input, torch.Tensor]], results: ClassResults, progress: tqdm) -> None:
    scores = results.predictor.score([image for _, image in waiting])
    for (entry, _), row in zip(waiting, scores, strict=True):
        results.add(entry, row)
        progress.update()
    waiting.clear()
