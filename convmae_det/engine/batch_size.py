"""How many images an optimizer step has: SOLVER.IMS_PER_BATCH auto.

As many as fit into one pass of each process, rounded down to a power of two, lest a little more or less memory be
another recipe; no more than SOLVER.REFERENCE_BATCH_SIZE, the batch of the recipe, nor than there are images. The
learning rate follows, as from any number.
"""

import logging
import os
from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from ..checkpoint.checkpointer import Checkpointer
from ..config.architectures import needs_pairs
from ..config.keys import AUTO
from ..config.reading import read_yaml
from ..errors import InputError
from ..precision import autocast, choose_training_precision
from .pass_size import try_passes

logger = logging.getLogger(__name__)

KEY = "SOLVER.IMS_PER_BATCH"


def keep_batch(cfg: CfgNode) -> CfgNode:
    """Returns a copy of `cfg` in which KEY auto is the number of the run in OUTPUT_DIR that is to be resumed, if any.

    Raises:
        InputError: the run's config.yaml has no such number.
    """
    if cfg.SOLVER.IMS_PER_BATCH != AUTO or not Checkpointer(nn.Module(), cfg.OUTPUT_DIR).has_checkpoint():
        return cfg
    path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
    images = dict(read_yaml(path)).get(KEY)
    if not isinstance(images, int) or images < 1:
        raise InputError(
            f"{KEY} is auto, but {path} doesn't say how many images the run to resume had: set the number that is in "
            "its log.txt"
        )
    logger.info(f"{KEY} auto: {images} images, as since the start of the run")
    return set_batch(cfg, images)


def choose_batch(cfg: CfgNode, num_images: int, build_model: Callable[[CfgNode], nn.Module]) -> CfgNode:
    """Returns a copy of `cfg` with a number in place of KEY auto, the same in all processes, and logs it.

    Args:
        cfg: of the training
        num_images: to train on
        build_model: gives the model to train, for trial passes

    Raises:
        InputError: in all processes, if not even one image fits.
    """
    solver, processes = cfg.SOLVER, comm.get_world_size()
    if solver.IMS_PER_BATCH != AUTO:
        return cfg
    least = 2 if needs_pairs(cfg) else 1
    limit = solver.MAX_IMS_PER_PASS if solver.MAX_IMS_PER_PASS > 0 else solver.REFERENCE_BATCH_SIZE
    most = max(min(solver.REFERENCE_BATCH_SIZE, num_images) // processes, 1)
    most = max(round_down(min(most, limit)), least)
    share = max(round_down(try_batches(cfg, build_model(cfg), most)), least)
    logger.info(
        f"{KEY} auto: {share * processes} images, {share} for each process (what fits one pass; a power of two, at "
        f"most SOLVER.REFERENCE_BATCH_SIZE {solver.REFERENCE_BATCH_SIZE} and the {num_images} images of DATASETS.TRAIN)"
    )
    return set_batch(cfg, share * processes)


def try_batches(cfg: CfgNode, model: nn.Module, most: int) -> int:
    """Finds how many images fit into a pass of training, at most so many."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    context = autocast(cfg.MODEL.DEVICE, choose_training_precision(cfg).dtype)
    return try_passes(cfg, model.train(), torch.optim.AdamW(trained), context, most, f"{KEY} auto").images


def round_down(images: int) -> int:
    """Rounds a number of at least 1 down to a power of two."""
    return 1 << (images.bit_length() - 1)


def set_batch(cfg: CfgNode, images: int) -> CfgNode:
    """Returns a copy of `cfg` with so many images in a batch."""
    resolved = cfg.clone()
    resolved.defrost()
    resolved.SOLVER.IMS_PER_BATCH = images
    if cfg.is_frozen():
        resolved.freeze()
    return resolved
