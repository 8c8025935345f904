"""The annotated objects of images, shown beside what a detector finds in them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from detectron2.data import Metadata

from ..data.detection.annotation_file import check_content, read_content
from ..data.detection.coco_format import describe_images
from ..errors import InputError
from ..visualization.predictions import build_ground_truth, draw_instances
from ..visualization.resizing import resize_annotation
from .inputs import Input
from .predictor import Predictor


class GroundTruth:
    """The images and objects of an annotation file in COCO's format."""

    def __init__(self, path: str):
        """Reads the file.

        Raises:
            InputError: it can't be used.
        """
        content = read_content(path)
        check_content(content, path, is_train=False)
        self.path = path
        images = describe_images(content, "")
        self.images = {os.path.normpath(image["file_name"]): image for image in images}
        if len(self.images) < len(images):
            raise InputError(f"{path} lists {len(images)} images, some of them of the same file name: keep one of each")

    def find(self, entry: Input) -> dict:
        """Finds the annotated image of a file by the end of its path, as long as possible; empty if there is none."""
        parts = Path(str(entry.source)).parts
        names = (os.path.join(*parts[start:]) for start in range(len(parts)))
        return next((self.images[name] for name in names if name in self.images), {})

    def select_listed(self, inputs: Sequence[Input]) -> list[Input]:
        """Selects those inputs that the annotations list.

        Raises:
            InputError: there is none, or two are the same image by their names.
        """
        found: dict[int | str, Input] = {}
        for entry in inputs:
            if entry.is_video or not (image := self.find(entry)):
                continue
            other = found.setdefault(image["image_id"], entry)
            if other is not entry:
                raise InputError(
                    f"{other.source} and {entry.source} both may be {image['file_name']}, which {self.path} lists: "
                    "name the inputs that it describes alone"
                )
        if not found:
            raise InputError(f"none of the inputs is an image that {self.path} lists: leave out --annotations")
        return list(found.values())

    def image_ids(self, inputs: Sequence[Input]) -> Iterator[int | str]:
        """Yields the ids of :meth:`select_listed` inputs, in their order."""
        return (self.find(entry)["image_id"] for entry in inputs)

    def draw(self, pixels: np.ndarray, entry: Input, predictor: Predictor) -> np.ndarray:
        """Draws the annotated objects, crowds left out, in the colours that predictions of their class have.

        Args:
            pixels: the image, (H, W, 3) uint8 RGB, or it shrunk

        Returns:
            (h, w, 3) uint8 RGB; small images are enlarged
        """
        image = self.find(entry)
        objects = image.get("annotations", ())
        ids = list(dict.fromkeys([*predictor.category_ids, *(a["category_id"] for a in objects)]))
        names = predictor.class_names + [f"category {id}" for id in ids[len(predictor.category_ids) :]]
        objects = [a | {"category_id": ids.index(a["category_id"])} for a in objects]
        if image and (size := (int(image["height"]), int(image["width"]))) != pixels.shape[:2]:
            objects = [resize_annotation(annotation, size, pixels.shape[:2]) for annotation in objects]
        instances = build_ground_truth(objects, pixels.shape[:2])
        return draw_instances(pixels, instances, Metadata(name="truth", thing_classes=names))
