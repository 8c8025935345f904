"""The features of the image on the page, for which the encoder is built when it is first asked for."""

import functools
import threading

import numpy as np
import torch

from ..inference.feature_extractor import FeatureExtractor, create_encoder
from ..visualization.features import draw_features

MAP = "e3"  # the last map that has weights of its own, a cell for 16×16 pixels


class FeatureDrawer:
    """Draws the features that an encoder has of images."""

    def __init__(self, config_file: str, weights: str):
        self.config_file, self.weights = config_file, weights
        self._lock = threading.Lock()

    @functools.cached_property
    def extractor(self) -> FeatureExtractor:
        return create_encoder(pretrained=self.weights, config=self.config_file, features=(MAP,)).eval()

    def __call__(self, image: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
        """Draws the features of a network's input, (C, h, w) in 0–255, as (height, width, 3) uint8 RGB of a `size`.

        Raises:
            InputError: the weights have no encoder that runs without its detector.
        """
        with self._lock, torch.inference_mode():
            mean, deviation = self.extractor.mean or (0.0,), self.extractor.std or (1.0,)
            mean, deviation = (torch.tensor(values).reshape(-1, 1, 1) for values in (mean, deviation))
            maps = self.extractor((image.float() / 255 - mean)[None] / deviation)
        return draw_features(maps[MAP][0], size)
