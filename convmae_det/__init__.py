"""ConvMAE for Detectron2: masked-autoencoder pretraining of a hybrid encoder, and object detection with it.

Importing the package registers what Detectron2 looks up by name: the backbones and the meta-architecture. Without
Detectron2 there is nothing to register, and what needs none of it works: `create_encoder`, and `push` and
`from_pretrained` of encoders.
"""

import importlib
import logging
import warnings

# What PyTorch and Detectron2 say of Detectron2's code; users can do nothing about it.
warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated", category=FutureWarning)
warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release", category=UserWarning)
logging.getLogger("torch.fx._symbolic_trace").addFilter(lambda record: "is_fx_tracing" not in record.getMessage())

try:
    import detectron2  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":  # it is there, but can't be imported
        raise
else:
    from .modeling import backbone, masked_autoencoder  # noqa: F401

__version__ = "0.1.0"

# Names of the package that are looked up in their modules when they are first used.
LAZY = {
    "create_encoder": "feature_extractor",
    "Predictor": "prediction",
    "push": "hub",
    "from_pretrained": "hub",
}


def __getattr__(name: str):
    """Raises ImportError, one sentence, where `name` needs Detectron2 and that is missing."""
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{LAZY[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("detectron2", "fvcore", "iopath", "pycocotools"):
            raise ImportError(
                f"convmae_det.{name} needs Detectron2, which is not installed ({error}): run make setup in a clone of "
                "this project, which installs it (README.md)"
            ) from error
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
