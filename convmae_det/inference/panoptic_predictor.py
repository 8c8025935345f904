"""A trained panoptic FPN for everyday use: pictures in, the segment of each pixel out.

from convmae_det import PanopticPredictor

predictor = PanopticPredictor("output/panoptic/config.yaml", "output/panoptic/model_final.pth")
(found,) = predictor(["image.jpg"])
print([segment.name for segment in found.segments])
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image

from ..config.architectures import is_panoptic
from ..config.checks.data import check_test_time_augmentation
from ..config.checks.detections import check_detections
from ..config.checks.panoptic import check_panoptic
from ..config.checks.tiles import check_tiles
from ..data.detection.categories import read_stated_categories
from ..data.segmentation.mapper import EvaluationMapper
from ..precision import autocast
from ..visualization.segmentation import draw_segmentation
from .picture_predictor import PicturePredictor
from .pictures import Picture


class Segment(NamedTuple):
    """An object, or all that an image has of a category of stuff.

    Attributes:
        id: at its pixels, above 0
        category: number in `class_names`, which lists things before stuff
        name: of the category
        isthing: whether it is an object
        score: of an object, 0 to 1; None of stuff
        area: in pixels
    """

    id: int
    category: int
    name: str
    isthing: bool
    score: float | None
    area: int


class FoundSegments(NamedTuple):
    """The segments of an image; `ids`, (H, W) int32, is 0 where there is none."""

    ids: torch.Tensor
    segments: list[Segment]


class PanopticPredictor(PicturePredictor):
    """Finds the segments of images, exactly as evaluation does.

    Attributes:
        class_names: list of str: things, then stuff
        category_ids: list of int, those of the data, in the same order
        things: how many of the classes are things
    """

    fits, lack, build_mapper = staticmethod(is_panoptic), "finds no segments", staticmethod(EvaluationMapper)

    @staticmethod
    def check(cfg: CfgNode) -> None:
        check_panoptic(cfg)
        check_detections(cfg)
        check_test_time_augmentation(cfg)
        check_tiles(cfg, is_train=False)

    def read_classes(self) -> None:
        """Adds the stuff to the classes; without names in the configuration it is numbered."""
        super().read_classes()
        self.things = len(self.class_names)
        number = self.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES - 1
        free = max(self.category_ids, default=0) + 1
        unnamed = [[free + index, f"stuff {index}"] for index in range(number)]
        for category, name in read_stated_categories(self.cfg, "STUFF_CATEGORIES") or unnamed:
            self.class_names.append(str(name))
            self.category_ids.append(int(category))

    def __call__(self, images: Sequence[Picture]) -> list[FoundSegments]:
        """Finds the segments in images, one by one.

        Args:
            images: as for `Predictor`

        Returns:
            For each those found, at the image's own size, on the CPU

        Raises:
            InputError: an image that can't be read, by its name.
        """
        return [self.segment(self.prepare(image)) for image in images]

    def segment(self, prepared: dict) -> FoundSegments:
        """Runs the model on what :meth:`prepare` gives; returns what :meth:`__call__` does for an image."""
        with torch.inference_mode(), autocast(self.cfg.MODEL.DEVICE, self.precision.dtype):
            ids, listed = self.model([prepared])[0]["panoptic_seg"]
        ids = ids.cpu().clone()
        areas = torch.bincount(ids.flatten(), minlength=len(listed) + 1).tolist()
        segments = []
        for entry in listed:
            category = entry["category_id"] if entry["isthing"] else self.things + entry["category_id"] - 1
            name, area = self.class_names[category], areas[entry["id"]]
            if area:
                segments.append(Segment(entry["id"], category, name, entry["isthing"], entry.get("score"), area))
        return FoundSegments(ids, segments)

    def draw(self, image: Picture, found: FoundSegments) -> Image.Image:
        """Draws the segments found over an image, with a legend that counts the objects."""
        counts = Counter(segment.category for segment in found.segments if segment.isthing)
        names = [f"{name} × {counts[i]}," if counts[i] else name for i, name in enumerate(self.class_names)]
        labels = [-1] * (max((segment.id for segment in found.segments), default=0) + 1)
        for segment in found.segments:
            labels[segment.id] = segment.category
        ids = found.ids.numpy()
        drawn = draw_segmentation(self.load_visible(image), np.array(labels)[ids], names, ids)
        return Image.fromarray(drawn)
