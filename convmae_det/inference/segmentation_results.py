"""Runs a segmentor on files: masks of the classes found, a table of their shares, and pictures of them, in a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import InputError
from ..files import atomic_write
from ..visualization.segmentation import make_palette
from .inputs import Input
from .parts import Attempt
from .picture_results import PictureResults, begins_with
from .segmentation_predictor import SegmentationPredictor

MASKS, TABLE = "masks", "results.csv"


class SegmentationResults(PictureResults):
    """The classes that are found, and the folder that they are written to."""

    titles, result_names = ("classes",), (MASKS, TABLE)

    def __init__(self, folder: str | Path, predictor: SegmentationPredictor, pictures: bool = True):
        """Makes the folder.

        Raises:
            InputError: it can't be made.
        """
        super().__init__(folder, predictor, pictures)

    def add(self, number: int, entry: Input, labels: torch.Tensor) -> None:
        """Writes the mask of an image, its classes (H, W) int64, and draws them."""
        numbers, names = labels.numpy(), self.predictor.class_names
        mask = Image.fromarray(numbers.astype(np.uint8 if len(names) <= 256 else np.uint16))
        if len(names) <= 256:
            mask.putpalette(make_palette(len(names)))
        with atomic_write(self.make_path(entry, ".png", MASKS)) as file:
            mask.save(file, format="PNG")
        if self.pictures:
            drawn = np.asarray(self.predictor.draw(str(entry.source), labels))
            self.save_picture(entry, drawn)
            self.keep_panels([drawn], number)
        shares = np.bincount(numbers.ravel(), minlength=len(names)) / numbers.size
        self.parts.add(number, [f"{share:.6f}" for share in shares])
        self.parts.end(number)

    def is_own(self) -> bool:
        table = begins_with(self.folder / TABLE, "path,")  # then the names of its classes
        return table and (self.folder / MASKS).is_dir()

    def merge(self, attempts: Mapping[int, Attempt]) -> str:
        path = self.folder / TABLE
        self.write_table(path, self.predictor.class_names, attempts)
        count = sum(attempt.images for attempt in attempts.values())
        return f"{count:,} masks in {self.folder / MASKS}; shares of the classes: {path}"


def predict_masks(results: Any) -> None:
    """Finds the classes, or segments, in the images that are given to this process, with progress.

    Unreadable inputs, and videos, are skipped.

    Args:
        results: `SegmentationResults` or `PanopticResults`
    """
    with results.show_progress() as progress:
        for number, entry in results.take():
            try:
                image = results.predictor.prepare(str(entry.source))
            except InputError as error:
                results.skip(number, error)
            else:
                results.add(number, entry, results.predictor.segment(image))
            results.advance(progress)
    for number, entry in results.take(videos=True):
        sentence = f"{entry.file_name} is a video, whose pixels are not labelled: extract its frames"
        results.skip(number, InputError(sentence))
