"""A trained segmentor for everyday use: pictures in, the class of each pixel out.

from convmae_det import SegmentationPredictor

predictor = SegmentationPredictor("output/segment/config.yaml", "output/segment/model_final.pth")
(labels,) = predictor(["image.jpg"])
print(predictor.class_names[labels[0, 0]])
"""

import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ..config.architectures import is_segmentor
from ..data.configuration import read_tool_config
from ..data.image import Decoding
from ..data.segmentation.mapper import EvaluationMapper
from ..errors import InputError
from ..precision import autocast, choose_evaluation_precision, log_precision
from ..visualization.segmentation import draw_segmentation
from .model import build_trained_model
from .predictor import Picture, load_pixels, load_visible, read_classes
from .sliding import slide_windows


class SegmentationPredictor:
    """Finds the class of each pixel, exactly as evaluation does.

    Attributes:
        class_names: list of str, by number
        cfg: the configuration of Detectron2
        model: on the device and in evaluation mode
        precision: the precision.Precision that the model runs in
    """

    def __init__(
        self,
        config_file: str | os.PathLike,
        weights: str | os.PathLike,
        device: str = "auto",
        pairs: Sequence[str] = (),
        precision: str | None = None,
    ):
        """Builds the segmentor and loads its weights; the arguments are those of `Predictor`.

        Raises:
            InputError: a file that can't be read, an invalid key or value, a configuration that isn't a segmentor's, or
                weights that lack a part of it.
        """
        pairs = pairs if precision is None else [*pairs, "TEST.PRECISION", precision]
        self.cfg = read_tool_config(str(config_file), pairs, device)
        if not is_segmentor(self.cfg):
            raise InputError(f"{config_file} describes a {self.cfg.MODEL.META_ARCHITECTURE}, which labels no pixels")
        self.precision = choose_evaluation_precision(self.cfg)
        log_precision(self.precision)
        self.class_names, _ = read_classes(self.cfg)
        self.decoding = Decoding.from_config(self.cfg)
        self.mapper = EvaluationMapper(self.cfg)
        self.model = slide_windows(self.cfg, build_trained_model(self.cfg, str(weights)).eval())

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

    def prepare(self, image: Picture) -> dict:
        """Converts an image to the model's input, see `EvaluationMapper`.

        Raises:
            InputError: see :meth:`__call__`.
        """
        return self.mapper.convert(load_pixels(image, self.cfg.INPUT.FORMAT, self.decoding))

    def segment(self, prepared: dict) -> torch.Tensor:
        """Runs the model on what :meth:`prepare` gives; returns what :meth:`__call__` does for an image."""
        with torch.inference_mode(), autocast(self.cfg.MODEL.DEVICE, self.precision.dtype):
            (found,) = self.model([prepared])
            return found["sem_seg"].argmax(dim=0).cpu().clone()

    def draw(self, image: Picture, labels: torch.Tensor) -> Image.Image:
        """Draws the classes found over an image, with a legend."""
        visible = load_visible(image, self.cfg.INPUT.FORMAT, self.decoding)
        return Image.fromarray(draw_segmentation(visible, np.asarray(labels), self.class_names))
