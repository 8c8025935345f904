"""Runs a panoptic FPN on files: their segments in COCO's panoptic format, and pictures of them, in a folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..data.detection.segments import LARGEST_ID, colour_segments
from ..errors import InputError
from ..files import atomic_write, write_json
from ..visualization.colours import class_colour
from .inputs import Input, assign_image_ids
from .panoptic_predictor import FoundSegments, PanopticPredictor, Segment
from .picture_results import PictureResults
from .results import make_folder

PNGS, JSON = "panoptic", "panoptic.json"
STEP = 0x1D3B29  # from one colour to the next where one is taken


class PanopticResults(PictureResults):
    """The segments that are found, and the folder that they are written to."""

    title = "segments"

    def __init__(self, folder: str | Path, predictor: PanopticPredictor, pictures: bool = True):
        """Makes the folder.

        Raises:
            InputError: it can't be made.
        """
        super().__init__(folder, pictures)
        self.predictor = predictor
        self.images: list[dict] = []
        self.annotations: list[dict] = []

    def add(self, entry: Input, image_id: int) -> None:
        """Finds the segments in an image, writes their PNG, and draws them.

        Raises:
            InputError: the image can't be read.
        """
        (found,) = self.predictor([str(entry.source)])
        colours = choose_ids(found.segments)
        new_ids = np.zeros(max(colours, default=0) + 1, np.int64)
        new_ids[list(colours)] = list(colours.values())
        path = self.folder / PNGS / f"{entry.output_name}.png"
        make_folder(path.parent)
        with atomic_write(path) as file:
            Image.fromarray(colour_segments(new_ids[found.ids.numpy()])).save(file, format="PNG")
        height, width = found.ids.shape
        self.images.append({"id": image_id, "file_name": entry.file_name, "height": height, "width": width})
        name = path.relative_to(self.folder / PNGS).as_posix()
        self.annotations.append(
            {"image_id": image_id, "file_name": name, "segments_info": self._describe(found, colours)}
        )
        if self.pictures:
            self.save_picture(entry, np.asarray(self.predictor.draw(str(entry.source), found)))

    def _describe(self, found: FoundSegments, colours: dict[int, int]) -> list[dict]:
        ids, described = found.ids.numpy(), []
        for segment in found.segments:
            rows, columns = (np.flatnonzero((ids == segment.id).any(axis)) for axis in (1, 0))
            box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
            entry = {"id": colours[segment.id], "category_id": self.predictor.category_ids[segment.category]}
            entry |= {"area": segment.area, "bbox": [int(side) for side in box], "iscrowd": 0}
            described.append(entry | ({} if segment.score is None else {"score": segment.score}))
        return described

    def write(self) -> str:
        """Writes JSON and, if pictures were drawn, overview.png.

        Returns:
            What to print for the user.
        """
        names = zip(self.predictor.category_ids, self.predictor.class_names, strict=True)
        categories = [
            {"id": number, "name": name, "isthing": int(place < self.predictor.things)}
            for place, (number, name) in enumerate(names)
        ]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        write_json(self.folder / JSON, content)
        count = sum(len(annotation["segments_info"]) for annotation in self.annotations)
        told = f"{count:,} segments in {len(self.images):,} images: {self.folder / JSON}, PNGs in {self.folder / PNGS}"
        return told + self.write_overview()


def choose_ids(segments: Sequence[Segment]) -> dict[int, int]:
    """Chooses new ids by old ones: the first segment of a class has its colour, others another that is free."""
    chosen: dict[int, int] = {}
    taken = {0}
    for segment in segments:
        red, green, blue = class_colour(segment.category)
        number = red + 256 * green + 256**2 * blue
        while number in taken:
            number = (number + STEP) % (LARGEST_ID + 1)
        taken.add(number)
        chosen[segment.id] = number
    return chosen


def predict_segments(inputs: Sequence[Input], results: PanopticResults) -> None:
    """Finds the segments in all images, with progress. Unreadable inputs, and videos, are skipped."""
    for entry, image_id in zip(tqdm(inputs, unit=" images", disable=None), assign_image_ids(inputs), strict=False):
        try:
            if entry.is_video:
                raise InputError(f"{entry.file_name} is a video, whose pixels are not labelled: extract its frames")
            results.add(entry, image_id)
        except InputError as error:
            results.skip(error)
