"""ConvMAE for Detectron2: masked-autoencoder pretraining of a hybrid encoder, and object detection with it.

Importing the package registers what Detectron2 looks up by name: the backbones and the meta-architecture.
"""

import warnings

# PyTorch says it of Detectron2's code at every start; users can do nothing about it.
warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.* is deprecated", category=FutureWarning)

from .modeling import backbone, masked_autoencoder  # noqa: E402, F401

__version__ = "0.1.0"
