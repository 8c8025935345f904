"""A trained classifier for everyday use: pictures in, scores of its classes out.

from convmae_det import ClassPredictor

predictor = ClassPredictor("output/classify/config.yaml", "output/classify/model_final.pth")
scores = predictor(["image.jpg"])
print(predictor.class_names[scores[0].argmax()])
"""

import os
from collections.abc import Sequence

import numpy as np
import torch

from ..config.architectures import is_classifier
from ..data.classification.mapper import EvaluationMapper
from ..data.configuration import read_tool_config
from ..data.image import Decoding
from ..errors import InputError
from ..precision import autocast, choose_evaluation_precision, log_precision
from .model import build_trained_model
from .predictor import Picture, load_pixels, load_visible, read_classes


class ClassPredictor:
    """Finds the class of images, exactly as evaluation does.

    Attributes:
        class_names: list of str, one for each column of the scores
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
        """Builds the classifier and loads its weights; the arguments are those of `Predictor`.

        Raises:
            InputError: a file that can't be read, an invalid key or value, a configuration that isn't a classifier's,
                or weights that lack a part of it.
        """
        pairs = pairs if precision is None else [*pairs, "TEST.PRECISION", precision]
        self.cfg = read_tool_config(str(config_file), pairs, device)
        if not is_classifier(self.cfg):
            raise InputError(f"{config_file} describes a {self.cfg.MODEL.META_ARCHITECTURE}, which has no class scores")
        self.precision = choose_evaluation_precision(self.cfg)
        log_precision(self.precision)
        self.class_names, _ = read_classes(self.cfg)
        self.decoding = Decoding.from_config(self.cfg)
        self.mapper = EvaluationMapper(self.cfg)
        self.model = build_trained_model(self.cfg, str(weights)).eval()

    def __call__(self, images: Sequence[Picture]) -> torch.Tensor:
        """Finds the classes of images in one batch.

        Args:
            images: as for `Predictor`

        Returns:
            (N, classes) float32 on the CPU; the scores of an image sum to 1

        Raises:
            InputError: an image that can't be read, by its name.
        """
        return self.score([self.prepare(image) for image in images])

    def prepare(self, image: Picture) -> torch.Tensor:
        """Converts an image to the model's input, (C, size, size) uint8.

        Raises:
            InputError: see :meth:`__call__`.
        """
        return self.mapper.transform(load_pixels(image, self.cfg.INPUT.FORMAT, self.decoding))

    def score(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        """Runs the model on inputs of :meth:`prepare`; returns what :meth:`__call__` does."""
        with torch.inference_mode(), autocast(self.cfg.MODEL.DEVICE, self.precision.dtype):
            found = self.model({"images": torch.stack(list(batch))})
        return torch.stack([image["scores"] for image in found]).float().cpu()

    def load_visible(self, image: Picture) -> np.ndarray:
        """Loads what is shown of an image, (H, W, 3) uint8 RGB."""
        return load_visible(image, self.cfg.INPUT.FORMAT, self.decoding)
