"""Runs a pretrained model on image files: what it reconstructs of the patches that are hidden from it."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from ..checkpoint import load_weights
from ..config.architectures import is_autoencoder
from ..data.image import Decoding
from ..data.pretraining.folders import list_images
from ..data.squares import read_square
from ..errors import InputError
from ..modeling.masked_autoencoder import MaskedAutoencoder
from ..precision import autocast, choose_evaluation_precision, log_precision
from ..visualization.reconstructions import build_panels, make_noise
from .model import build_model


def find_images(places: Sequence[str]) -> list[str]:
    """Lists image files: those that are named, and those in folders at any depth.

    Raises:
        InputError: there are none.
    """
    if not places:
        raise InputError("no image is named: end the command line in image files or folders of them")
    listed = [
        list_images(os.path.realpath(place), arrays=True) if os.path.isdir(place) else [place] for place in places
    ]
    return [image if isinstance(image, str) else image["file_name"] for images in listed for image in images]


class Reconstructor:
    """A pretrained model in use: the middles of images, resized to MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE, as it makes them.

    Attributes:
        cfg: the configuration of Detectron2
        model: on the device, with its decoder
        precision: the precision.Precision that the model runs in, as TEST.PRECISION says
    """

    def __init__(self, cfg: CfgNode, weights: str):
        """Builds the model and loads the weights of a checkpoint of pretraining.

        Raises:
            InputError: `cfg` isn't of pretraining, or a part of the model is not among the weights.
        """
        self.cfg = cfg
        self.precision = choose_evaluation_precision(cfg)
        log_precision(self.precision)
        self.model = _load_model(cfg, weights)

    def prepare(self, path: str) -> torch.Tensor:
        """Reads the middle of an image as the model's input: (channels, size, size) uint8.

        Raises:
            InputError: it can't be read.
        """
        return _read_square(path, self.cfg)

    def __call__(self, image: torch.Tensor, noise: torch.Tensor) -> tuple[np.ndarray, float]:
        """Reconstructs an image of :meth:`prepare`.

        Args:
            noise: (L), decides what is hidden; see `make_noise`

        Returns:
            The panels (4, H, W, 3) uint8 RGB that `visualization.reconstructions` describes, and the loss.
        """
        with autocast(self.cfg.MODEL.DEVICE, self.precision.dtype):
            node = self.cfg.INPUT
            panels, (loss,) = build_panels(self.model, image[None], noise[None], node.FORMAT, node.SHOWN_BANDS)
        return panels[0], loss

    def make_noise(self, image: torch.Tensor, seed: int) -> torch.Tensor:
        """Makes noise (L) for an image, the same for each seed."""
        return make_noise(self.model, image[None], seed)[0]


def reconstruct_files(
    cfg: CfgNode, weights: str, paths: Sequence[str], seed: int = 0
) -> Iterator[tuple[np.ndarray, float]]:
    """Reconstructs images, each with a mask of its own.

    Args:
        cfg: of pretraining
        weights: the path of a checkpoint of pretraining
        seed: decides what is hidden

    Yields:
        Of each image what a `Reconstructor` returns.

    Raises:
        InputError: an image can't be read, or a part of the model is not among the weights; before the first is made.
    """
    images = torch.stack([_read_square(path, cfg) for path in paths])
    reconstruct = Reconstructor(cfg, weights)
    for image, noise in zip(images, make_noise(reconstruct.model, images, seed), strict=True):
        yield reconstruct(image, noise)


def _read_square(path: str, cfg: CfgNode) -> torch.Tensor:
    """Reads the middle of an image as the model's input: (channels, size, size) uint8."""
    square = read_square(path, cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE, cfg.INPUT.FORMAT, Decoding.from_config(cfg))
    if len(square) != len(cfg.MODEL.PIXEL_MEAN):
        raise InputError(
            f"MODEL.PIXEL_MEAN has {len(cfg.MODEL.PIXEL_MEAN)} entries, but INPUT.FORMAT {cfg.INPUT.FORMAT} has "
            f"{len(square)} channels: give it one for each"
        )
    return square


def _load_model(cfg: CfgNode, weights: str) -> MaskedAutoencoder:
    if not is_autoencoder(cfg):
        raise InputError(
            f"--config-file describes a {cfg.MODEL.META_ARCHITECTURE}: reconstruction needs the configuration of "
            "pretraining, such as configs/pretrain_convmae_b.yaml"
        )
    model: Any = build_model(cfg, for_long=False)
    report = load_weights(model, weights)
    lacking = {name.split(".")[0] for name in report.new}
    if "decoder" in lacking:
        raise InputError(
            f"{weights} holds an encoder without a decoder: reconstruction needs both, so give a checkpoint that "
            "pretraining wrote, not one of the encoder alone, of a classifier or of a detector"
        )
    if "fusion" in lacking:
        raise InputError(f"{weights} holds no fusion of the scales: set MODEL.MAE.MULTI_SCALE_DECODER False")
    return model
