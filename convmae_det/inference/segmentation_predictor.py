"""A trained segmentor for everyday use: pictures in, the class of each pixel out.

from convmae_det import SegmentationPredictor

predictor = SegmentationPredictor("output/segment/config.yaml", "output/segment/model_final.pth")
(labels,) = predictor(["image.jpg"])
print(predictor.class_names[labels[0, 0]])
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..config.architectures import is_segmentor
from ..data.segmentation.mapper import EvaluationMapper
from ..precision import autocast
from ..visualization.segmentation import draw_segmentation
from .picture_predictor import PicturePredictor
from .pictures import Picture
from .sliding import slide_windows


class SegmentationPredictor(PicturePredictor):
    """Finds the class of each pixel, exactly as evaluation does."""

    fits, lack, build_mapper = staticmethod(is_segmentor), "labels no pixels", staticmethod(EvaluationMapper)

    def __init__(self, *args: Any, **options: Any):
        """Takes the arguments of `PicturePredictor`; large images are taken as TEST.SLIDING_WINDOW says."""
        super().__init__(*args, **options)
        self.model = slide_windows(self.cfg, self.model)

    def __call__(self, images: Sequence[Picture]) -> list[torch.Tensor]:
        """Finds the classes in images, one by one.

        Args:
            images: as for `Predictor`

        Returns:
            For each (H, W) int64 on the CPU, at the image's own size

        Raises:
            InputError: an image that can't be read, by its name.
        """
        return [self.segment(self.prepare(image)) for image in images]

    def segment(self, prepared: dict) -> torch.Tensor:
        """Runs the model on what :meth:`prepare` gives; returns what :meth:`__call__` does for an image."""
        with torch.inference_mode(), autocast(self.cfg.MODEL.DEVICE, self.precision.dtype):
            (found,) = self.model([prepared])
            return found["sem_seg"].argmax(dim=0).cpu().clone()

    def draw(self, image: Picture, labels: torch.Tensor) -> Image.Image:
        """Draws the classes found over an image, with a legend."""
        visible = self.load_visible(image)
        return Image.fromarray(draw_segmentation(visible, np.asarray(labels), self.class_names))
