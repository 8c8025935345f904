"""Runs a segmentor on files: masks of the classes found, a table of their shares, and pictures of them, in a folder."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_write
from ..visualization.segmentation import make_palette
from .inputs import Input
from .picture_results import PictureResults
from .results import make_folder
from .segmentation_predictor import SegmentationPredictor

MASKS, TABLE = "masks", "results.csv"


class SegmentationResults(PictureResults):
    """The classes that are found, and the folder that they are written to."""

    title = "classes"

    def __init__(self, folder: str | Path, predictor: SegmentationPredictor, pictures: bool = True):
        """Makes the folder.

        Raises:
            InputError: it can't be made.
        """
        super().__init__(folder, pictures)
        self.predictor = predictor
        self.rows: list[list[str]] = []

    def add(self, entry: Input) -> None:
        """Finds the classes in an image, writes their mask, and draws them.

        Raises:
            InputError: the image can't be read.
        """
        labels = self.predictor([str(entry.source)])[0]
        numbers = labels.numpy()
        names = self.predictor.class_names
        shares = np.bincount(numbers.ravel(), minlength=len(names)) / numbers.size
        self.rows.append([entry.file_name, *(f"{share:.6f}" for share in shares)])
        path = self.folder / MASKS / f"{entry.output_name}.png"
        make_folder(path.parent)
        mask = Image.fromarray(numbers.astype(np.uint8 if len(names) <= 256 else np.uint16))
        if len(names) <= 256:
            mask.putpalette(make_palette(len(names)))
        with atomic_write(path) as file:
            mask.save(file, format="PNG")
        if self.pictures:
            self.save_picture(entry, np.asarray(self.predictor.draw(str(entry.source), labels)))

    def write(self) -> str:
        """Writes TABLE and, if pictures were drawn, overview.png.

        Returns:
            What to print for the user.
        """
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([["path", *self.predictor.class_names], *self.rows])
        with atomic_write(self.folder / TABLE) as file:
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))
        told = f"{len(self.rows):,} masks in {self.folder / MASKS}; shares of the classes: {self.folder / TABLE}"
        return told + self.write_overview()


def predict_masks(inputs: Sequence[Input], results: SegmentationResults) -> None:
    """Finds the classes in all images, with progress. Unreadable inputs, and videos, are skipped."""
    for entry in tqdm(inputs, unit=" images", disable=None):
        try:
            if entry.is_video:
                raise InputError(f"{entry.file_name} is a video, whose pixels are not labelled: extract its frames")
            results.add(entry)
        except InputError as error:
            results.skip(error)
