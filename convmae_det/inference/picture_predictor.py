"""What the predictors of classifiers and segmentors have in common: the trained model, and how it takes pictures."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ..config.checks.rules import require
from ..config.checks.tiles import get_test_tile
from ..data.configuration import read_tool_config
from ..data.image import Decoding
from ..errors import InputError
from ..precision import choose_evaluation_precision, log_precision
from .model import build_trained_model
from .pictures import Picture, load_pixels, load_visible
from .predictor import read_classes


class PicturePredictor:
    """A trained model that takes pictures, exactly as evaluation does.

    Attributes:
        class_names: list of str, by number
        cfg: the configuration of Detectron2
        model: on the device and in evaluation mode
        precision: the precision.Precision that the model runs in
    """

    fits: Callable[[CfgNode], bool]  # whether a configuration describes such a model,
    lack: str  # and what others don't do
    build_mapper: Callable[[CfgNode], Any]

    def __init__(
        self,
        config_file: str | os.PathLike,
        weights: str | os.PathLike,
        device: str = "auto",
        pairs: Sequence[str] = (),
        precision: str | None = None,
    ):
        """Builds the model and loads its weights; the arguments are those of `Predictor`.

        Raises:
            InputError: a file that can't be read, an invalid key or value, a configuration of another kind of model, or
                weights that lack a part of it.
        """
        pairs = pairs if precision is None else [*pairs, "TEST.PRECISION", precision]
        self.cfg = read_tool_config(str(config_file), pairs, device)
        if not self.fits(self.cfg):
            raise InputError(f"{config_file} describes a {self.cfg.MODEL.META_ARCHITECTURE}, which {self.lack}")
        self.check(self.cfg)
        self.precision = choose_evaluation_precision(self.cfg)
        log_precision(self.precision)
        self.read_classes()
        self.decoding = Decoding.from_config(self.cfg)
        self.mapper = self.build_mapper(self.cfg)
        self.model = build_trained_model(self.cfg, str(weights)).eval()

    @staticmethod
    def check(cfg: CfgNode) -> None:
        """Checks the keys that matter.

        Raises:
            InputError: one is out of range, or would be ignored.
        """
        must = "be 0 for what isn't a detector; TEST.SLIDING_WINDOW takes a segmentor's large images in parts"
        require(get_test_tile(cfg) == 0, "TEST.TILE", get_test_tile(cfg), must)

    def read_classes(self) -> None:
        """Reads the names of the classes, and the ids of their categories."""
        self.class_names, self.category_ids = read_classes(self.cfg)

    def prepare(self, image: Picture) -> dict:
        """Converts an image to the model's input, by the mapper's `convert`.

        Raises:
            InputError: it can't be read; names it.
        """
        return self.mapper.convert(load_pixels(image, self.cfg.INPUT.FORMAT, self.decoding))

    def load_visible(self, image: Picture) -> np.ndarray:
        """Loads what is shown of an image, (H, W, 3) uint8 RGB."""
        return load_visible(image, self.cfg.INPUT.FORMAT, self.decoding)
