"""A trained classifier for everyday use: pictures in, scores of its classes out.

from convmae_det import ClassPredictor

predictor = ClassPredictor("output/classify/config.yaml", "output/classify/model_final.pth")
scores = predictor(["image.jpg"])
print(predictor.class_names[scores[0].argmax()])
"""

from collections.abc import Sequence

import torch

from ..config.architectures import is_classifier
from ..data.classification.mapper import EvaluationMapper
from ..precision import autocast
from .picture_predictor import PicturePredictor
from .pictures import Picture, load_pixels


class ClassPredictor(PicturePredictor):
    """Finds the class of images, exactly as evaluation does; `class_names` has one for each column of the scores."""

    fits, lack, build_mapper = staticmethod(is_classifier), "has no class scores", staticmethod(EvaluationMapper)

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
