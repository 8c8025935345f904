"""Runs a panoptic FPN on files: their segments in COCO's panoptic format, and pictures of them, in a folder."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.detection.segments import LARGEST_ID, colour_segments
from ..files import atomic_write, write_json
from ..visualization.colours import class_colour
from .inputs import Input, assign_image_ids
from .panoptic_predictor import FoundSegments, PanopticPredictor, Segment
from .parts import Attempt
from .picture_results import PictureResults

PNGS, JSON = "panoptic", "panoptic.json"
INFO = {"description": "Segments that convmae-det predict found"}
STEP = 0x1D3B29  # from one colour to the next where one is taken


class PanopticResults(PictureResults):
    """The segments that are found, and the folder that they are written to."""

    titles, result_names = ("segments",), (PNGS, JSON)

    def __init__(self, folder: str | Path, predictor: PanopticPredictor, pictures: bool = True):
        """Makes the folder.

        Raises:
            InputError: it can't be made.
        """
        super().__init__(folder, predictor, pictures)

    def add(self, number: int, entry: Input, found: FoundSegments) -> None:
        """Writes the PNG of an image's segments, and draws them."""
        colours = choose_ids(found.segments)
        new_ids = np.zeros(max(colours, default=0) + 1, np.int64)
        new_ids[list(colours)] = list(colours.values())
        path = self.make_path(entry, ".png", PNGS)
        with atomic_write(path) as file:
            Image.fromarray(colour_segments(new_ids[found.ids.numpy()])).save(file, format="PNG")
        if self.pictures:
            drawn = np.asarray(self.predictor.draw(str(entry.source), found))
            self.save_picture(entry, drawn)
            self.keep_panels([drawn], number)
        described = {"size": list(found.ids.shape), "segments": self._describe(found, colours)}
        self.parts.add(number, described | {"file_name": path.relative_to(self.folder / PNGS).as_posix()})
        self.parts.end(number)

    def _describe(self, found: FoundSegments, colours: dict[int, int]) -> list[dict]:
        ids, described = found.ids.numpy(), []
        for segment in found.segments:
            rows, columns = (np.flatnonzero((ids == segment.id).any(axis)) for axis in (1, 0))
            box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
            entry = {"id": colours[segment.id], "category_id": self.predictor.category_ids[segment.category]}
            entry |= {"area": segment.area, "bbox": [int(side) for side in box], "iscrowd": 0}
            described.append(entry | ({} if segment.score is None else {"score": segment.score}))
        return described

    def is_own(self) -> bool:
        try:
            return json.loads((self.folder / JSON).read_bytes())["info"] == INFO
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def merge(self, attempts: Mapping[int, Attempt]) -> str:
        """Writes panoptic.json. Returns what to print for the user."""
        names = zip(self.predictor.category_ids, self.predictor.class_names, strict=True)
        categories = [
            {"id": number, "name": name, "isthing": int(place < self.predictor.things)}
            for place, (number, name) in enumerate(names)
        ]
        images, annotations = [], []
        for number, image_id in enumerate(itertools.islice(assign_image_ids(self.inputs), len(self.inputs))):
            for found in self.parts.read(attempts[number]) if number in attempts else ():
                (height, width), file_name = found["size"], self.inputs[number].file_name
                images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
                segments = {"file_name": found["file_name"], "segments_info": found["segments"]}
                annotations.append({"image_id": image_id, **segments})
        path = self.folder / JSON
        write_json(path, {"info": INFO, "images": images, "annotations": annotations, "categories": categories})
        count = sum(len(annotation["segments_info"]) for annotation in annotations)
        return f"{count:,} segments in {len(images):,} images: {path}, PNGs in {self.folder / PNGS}"


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
