"""A page to try a classifier on: the likeliest classes of an image, and what its encoder sees."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..inference.class_predictor import ClassPredictor
from .features import FeatureDrawer
from .page import WORKING, add_features, add_picture, add_source, explain
from .server import import_gradio

SHOWN = 5  # classes


class ClassifierView:
    """Finds the classes of images."""

    def __init__(self, predictor: ClassPredictor, draw_features: FeatureDrawer):
        self.predictor, self.draw_features = predictor, draw_features

    def find(self, path: str | None) -> tuple[np.ndarray | None, dict[str, float] | None]:
        """Finds the classes of an image.

        Returns:
            The image, (H, W, 3) uint8 RGB, and the score of each class; None without an image.

        Raises:
            InputError: it can't be read.
        """
        if path is None:
            return None, None
        scores = self.predictor([path])[0].tolist()
        return self.predictor.load_visible(path), dict(zip(self.predictor.class_names, scores, strict=True))

    def look(self, path: str | None) -> np.ndarray | None:
        """Draws the features of the part that the classifier sees; errors are those of :meth:`find`."""
        if path is None:
            return None
        image = self.predictor.prepare(path)
        return self.draw_features(image, (image.shape[1], image.shape[2]))


def build_classifier_page(view: ClassifierView, examples: Sequence[str]) -> Any:
    """Builds the page, gradio's Blocks; `examples` are paths of images."""
    gradio = import_gradio()
    with gradio.Blocks(title="Classes found by ConvMAE", analytics_enabled=False) as blocks:
        path = add_source(examples, view.predictor.load_visible)
        with gradio.Row():
            picture = add_picture("Image", "picture")
            with gradio.Column(min_width=300):
                classes = gradio.Label(num_top_classes=SHOWN, label="Classes", elem_id="classes")
                add_features(path, view.look)
        path.change(explain(view.find), path, [picture, classes], **WORKING)
    return blocks
