"""ConvMAE for Detectron2: masked-autoencoder pretraining of a hybrid encoder, and object detection with it.

Importing the package registers what Detectron2 looks up by name: the backbones and the meta-architecture.
"""

from .modeling import backbone, masked_autoencoder  # noqa: F401

__version__ = "0.1.0"
