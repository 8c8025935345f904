"""The page of a network, whichever kind it is."""

from collections.abc import Sequence
from typing import Any

from ..config.architectures import is_autoencoder, is_classifier
from ..data.configuration import read_config, read_tool_config
from ..inference.class_predictor import ClassPredictor
from ..inference.predictor import Predictor
from ..inference.reconstruction import Reconstructor
from .autoencoder import AutoencoderView, build_autoencoder_page
from .classifier import ClassifierView, build_classifier_page
from .detector import DetectorView, build_detector_page
from .examples import find_examples
from .features import FeatureDrawer


def build_page(
    config_file: str, weights: str, device: str = "", pairs: Sequence[str] = (), precision: str | None = None
) -> Any:
    """Builds the network, loads its weights, and builds its page; the arguments are those of `Predictor`.

    Returns:
        gradio's Blocks

    Raises:
        InputError: as for `Predictor`, `ClassPredictor` and `Reconstructor`.
    """
    draw_features = FeatureDrawer(config_file, weights)
    cfg = read_config(config_file, pairs)
    examples = find_examples(cfg)
    if is_autoencoder(cfg):
        pairs = pairs if precision is None else [*pairs, "TEST.PRECISION", precision]
        reconstructor = Reconstructor(read_tool_config(config_file, pairs, device), weights)
        return build_autoencoder_page(AutoencoderView(reconstructor, draw_features), examples)
    if is_classifier(cfg):
        predictor = ClassPredictor(config_file, weights, device, pairs, precision)
        return build_classifier_page(ClassifierView(predictor, draw_features), examples)
    detector = Predictor(config_file, weights, device, pairs=pairs, precision=precision)
    return build_detector_page(DetectorView(detector, draw_features), examples)
