"""Runs a classifier on files: a table of the classes found, and pictures of them, in a folder."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_write
from ..visualization.classes import draw_classes
from .class_predictor import ClassPredictor
from .inputs import Input
from .picture_results import PictureResults

FEW = 5  # classes of an image in the table,
DRAWN = 3  # and in a picture
TABLE = "results.csv"


class ClassResults(PictureResults):
    """The classes that are found, and the folder that they are written to.

    Attributes:
        rows: of the table
    """

    title = "classes and scores"

    def __init__(self, folder: str | Path, predictor: ClassPredictor, pictures: bool = True):
        """Makes the folder.

        Raises:
            InputError: it can't be made.
        """
        super().__init__(folder, pictures)
        self.predictor = predictor
        self.few = min(FEW, len(predictor.class_names))
        self.rows: list[list[str]] = []

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
        self.save_picture(entry, drawn)

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
        return f"{len(self.rows):,} images: {self.folder / TABLE}" + self.write_overview()


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
