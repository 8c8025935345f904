"""Builds models from a configuration with Detectron2's registries, also with trained weights."""

import logging

from detectron2.config import CfgNode
from detectron2.modeling import build_model as build_registered
from detectron2.modeling.roi_heads.box_head import FastRCNNConvFCHead
from detectron2.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import nn

from ..checkpoint import Strictness, load_weights
from ..config.building import compute_training_pad, crops_position
from ..errors import InputError, shorten_error
from ..modeling import backbone, classifier, masked_autoencoder, upernet  # noqa: F401  (registered by being imported)
from ..modeling.decoder import Decoder
from ..modeling.encoder import Encoder
from ..ops.compilation import compile_modules
from ..ops.layers import pad_regions
from ..precision import is_gpu, keep_outputs_in_float32, speed_up_float32
from .mask_pieces import predict_masks_in_pieces
from .padding import pad_as_trained
from .pasting import paste_in_pieces
from .soft_suppression import soften_suppression

logger = logging.getLogger(__name__)

HEADS = (MaskRCNNConvUpsampleHead, FastRCNNConvFCHead, KRCNNConvDeconvUpsampleHead)  # which work region by region


def build_model(cfg: CfgNode, for_long: bool = True) -> nn.Module:
    """Builds a model with Detectron2, and applies what makes it fast and, in mixed precision, exact enough.

    Args:
        cfg: of the model
        for_long: whether it will run for so long, as in training, that MODEL.COMPILE auto compiles it on a GPU

    Raises:
        InputError: Detectron2, or torch, can't use a value.
    """
    try:
        model = build_registered(cfg)
    except InputError:
        raise
    except Exception as error:  # registries, assertions and allocators raise many kinds
        raise InputError(
            f"no model can be built from the values under MODEL ({type(error).__name__}: {shorten_error(error)}): "
            "compare those that you set with the files in configs/"
        ) from error
    keep_outputs_in_float32(model)
    pad_regions(model, HEADS)
    predict_masks_in_pieces(model)
    paste_in_pieces(model)
    soft = cfg.MODEL.ROI_HEADS.SOFT_NMS
    if soft.METHOD:
        soften_suppression(model, soft.METHOD, soft.SIGMA)
    node = cfg.MODEL.CONVMAE
    pad_as_trained(model, compute_training_pad(cfg), node.PAD_VALUE, always=not crops_position(node.RELATIVE_POSITION))
    compiles = cfg.MODEL.COMPILE
    if compiles is True or (compiles is not False and for_long and is_gpu(cfg.MODEL.DEVICE)):
        compile_modules(model, (Encoder, Decoder))  # the heads of a detector work on lists of boxes
    model.class_names = [name for _, name in cfg.DATASETS.CATEGORIES]  # which checkpoints store and compare
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad or frozen) for frozen in (True, False)]
    tf32 = speed_up_float32(cfg.MODEL.DEVICE, cfg.FLOAT32_PRECISION)
    logger.info(f"{type(model).__name__} on {cfg.MODEL.DEVICE}: {counts[0]:,} parameters, {counts[1]:,} trained{tf32}")
    return model


def build_trained_model(cfg: CfgNode, path: str) -> nn.Module:
    """Builds the model and loads the weights of a file, to be used as they are.

    Raises:
        InputError: the file lacks a weight of the model; or as :func:`build_model`.
    """
    model = build_model(cfg, for_long=False)
    load_weights(model, path, strictness=Strictness.WHOLE)
    return model
