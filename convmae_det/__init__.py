"""ConvMAE for Detectron2: masked-autoencoder pretraining of a hybrid encoder, and object detection with it.

Importing the package registers what Detectron2 looks up by name, the backbones and the meta-architecture, and does
nothing else. Without Detectron2 there is nothing to register, and what needs none of it works: `create_encoder`, and
`push` and `from_pretrained` of encoders.
"""

import importlib
import warnings

__all__ = ["Predictor", "create_encoder", "from_pretrained", "push"]
__version__ = "0.1.0"

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # said by PyTorch of Detectron2's code
    try:
        import detectron2  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "detectron2":  # it is there, but can't be imported
            raise
    else:
        from .modeling import backbone, masked_autoencoder  # noqa: F401

# The modules of the public names, each imported when its name is first used.
MODULES = {
    "Predictor": "inference.predictor",
    "create_encoder": "inference.feature_extractor",
    "from_pretrained": "hub.publish",
    "push": "hub.publish",
}


def __getattr__(name: str):
    """Raises ImportError, one sentence, where `name` needs Detectron2 and that is missing."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("detectron2", "fvcore", "iopath", "pycocotools"):
            raise ImportError(
                f"convmae_det.{name} needs Detectron2, which is not installed ({error}): run make setup in a clone of "
                "this project, which installs it (README.md)"
            ) from error
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES})
