"""ConvMAE for Detectron2: pretraining of a hybrid encoder by masked autoencoding, detection and more.

Importing the package does nothing: public names are imported when they are first used, and what Detectron2 looks up by
name is registered by `config.add_convmae_config`. `create_encoder`, and `push` and `from_pretrained` of encoders, need
no Detectron2.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what __getattr__ gives
    from .hub.publish import from_pretrained, push
    from .inference.class_predictor import ClassPredictor
    from .inference.feature_extractor import create_encoder
    from .inference.panoptic_predictor import PanopticPredictor
    from .inference.predictor import Predictor
    from .inference.segmentation_predictor import SegmentationPredictor

__all__ = ["ClassPredictor", "PanopticPredictor", "Predictor", "SegmentationPredictor"]
__all__ += ["create_encoder", "from_pretrained", "push"]
__version__ = "1.0.0"

# The modules of the public names, each imported when its name is first used.
MODULES = {
    "ClassPredictor": "inference.class_predictor",
    "PanopticPredictor": "inference.panoptic_predictor",
    "Predictor": "inference.predictor",
    "SegmentationPredictor": "inference.segmentation_predictor",
    "create_encoder": "inference.feature_extractor",
    "from_pretrained": "hub.publish",
    "push": "hub.publish",
}


def __getattr__(name: str) -> Any:
    """Raises ImportError, one sentence, where `name` needs Detectron2 and that is missing."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("detectron2", "fvcore", "iopath", "pycocotools"):
            raise ImportError(
                f"convmae_det.{name} needs Detectron2, which is not installed ({error}): run "
                "`convmae-det install-detectron2`"
            ) from error
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES})
