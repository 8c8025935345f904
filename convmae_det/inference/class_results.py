"""Runs a classifier on files: a table of the classes found, and pictures of them, in a folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from tqdm import tqdm

from ..errors import InputError
from ..visualization.classes import draw_classes
from .class_predictor import ClassPredictor
from .inputs import Input
from .parts import Attempt
from .picture_results import PictureResults, begins_with

FEW = 5  # classes of an image in the table,
DRAWN = 3  # and in a picture
TABLE = "results.csv"

Waiting = list[tuple[int, Input, torch.Tensor]]  # (C, size, size) of each


class ClassResults(PictureResults):
    """The classes that are found, and the folder that they are written to."""

    titles, result_names = ("classes and scores",), (TABLE,)

    def __init__(self, folder: str | Path, predictor: ClassPredictor, pictures: bool = True):
        """Makes the folder.

        Raises:
            InputError: it can't be made.
        """
        super().__init__(folder, predictor, pictures)
        self.few = min(FEW, len(predictor.class_names))

    def add(self, number: int, entry: Input, scores: torch.Tensor) -> None:
        """Records the scores of an image, (classes,), and draws those that are highest."""
        names = self.predictor.class_names
        values, indices = (part.tolist() for part in scores.topk(self.few))
        found = [(index, names[index], value) for index, value in zip(indices, values, strict=True)]
        if self.pictures:
            drawn = draw_classes(self.predictor.load_visible(str(entry.source)), found[:DRAWN])
            self.save_picture(entry, drawn)
            self.keep_panels([drawn], number)
        self.parts.add(number, [cell for _, name, value in found for cell in (name, f"{value:.6f}")])
        self.parts.end(number)

    def is_own(self) -> bool:
        return begins_with(self.folder / TABLE, "path,class,score")

    def merge(self, attempts: Mapping[int, Attempt]) -> str:
        others = [f"{what}_{rank}" for rank in range(2, self.few + 1) for what in ("class", "score")]
        path = self.folder / TABLE
        self.write_table(path, ["class", "score", *others], attempts)
        return f"{sum(attempt.images for attempt in attempts.values()):,} images: {path}"


def predict_classes(results: ClassResults, batch_size: int = 1) -> None:
    """Finds the classes of the images that are given to this process, with progress.

    Unreadable inputs, and videos, are skipped.
    """
    waiting: Waiting = []
    with results.show_progress() as progress:
        for image in _read(results, progress):
            waiting.append(image)
            if len(waiting) == batch_size:
                _run(waiting, results, progress)
        if waiting:
            _run(waiting, results, progress)
    for number, entry in results.take(videos=True):
        sentence = f"{entry.file_name} is a video, of which no class is found: extract its frames"
        results.skip(number, InputError(sentence))


def _read(results: ClassResults, progress: tqdm) -> Iterator[tuple[int, Input, torch.Tensor]]:
    for number, entry in results.take():
        try:
            image = results.predictor.prepare(str(entry.source))
        except InputError as error:
            results.skip(number, error)
            results.advance(progress)
        else:
            yield number, entry, image


def _run(waiting: Waiting, results: ClassResults, progress: tqdm) -> None:
    scores = results.predictor.score([image for _, _, image in waiting])
    for (number, entry, _), row in zip(waiting, scores, strict=True):
        results.add(number, entry, row)
    results.advance(progress)
    waiting.clear()
