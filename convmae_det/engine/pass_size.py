"""How many images fit into one pass of a process, forward and backward: SOLVER.MAX_IMS_PER_PASS auto.

A pass needs memory that doesn't depend on the images (weights, gradients), and more of it with each image. Its peak, as
a function of the number of images, is the largest of several straight lines, one for each moment of the pass. Two small
passes give a line that isn't above it, a third pass tests the number that follows from it; and if that takes too much,
the line through what was measured on both sides isn't below it, so that what follows from that line fits. So it is on
a GPU: on a CPU, memory that runs out ends more than the trial (host_pass_size.py).
"""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ..config.architectures import is_detector, is_segmentor, needs_pairs
from ..data.random_input import make_random_input
from ..errors import InputError
from ..precision import describe_device, is_gpu
from . import host_pass_size

logger = logging.getLogger(__name__)

KEY = "SOLVER.MAX_IMS_PER_PASS auto"
CPU_IMAGES = 64  # at most, in a pass on a CPU, whose time doesn't depend on it
TRIAL_IMAGES = 16  # in the first trial pass; half of them in the second
MARGIN = 0.1  # of the memory, for its fragments and for images with more objects
MOMENTS = 2  # values of an optimizer for each weight, from its first step on


class PassSize(NamedTuple):
    """The most images in a pass, and the device for which they were found, as checkpoints record them."""

    images: int
    device: str  # its name
    memory: int = 0  # bytes of a GPU


def find_pass_size(
    cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer, autocast: AbstractContextManager
) -> PassSize:
    """Finds the most images in a pass, by trial passes, and logs them; they are the same in all processes.

    Args:
        cfg: of the training
        model: in training mode, without DistributedDataParallel; stays as it is
        optimizer: of its weights, before its first step
        autocast: of the forward pass

    Raises:
        InputError: in all processes, if not even one image fits.
    """
    most = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    return try_passes(cfg, model, optimizer, autocast, most if is_gpu(cfg.MODEL.DEVICE) else min(most, CPU_IMAGES), KEY)


def try_passes(
    cfg: CfgNode,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    autocast: AbstractContextManager,
    most: int,
    key: str,
) -> PassSize:
    """Does what :func:`find_pass_size` does, for at most so many images; `key` asks for it."""
    name = describe_device(cfg.MODEL.DEVICE)
    lasting = count_lasting(optimizer)
    if is_gpu(cfg.MODEL.DEVICE):
        total = torch.cuda.mem_get_info(cfg.MODEL.DEVICE)[1]
        images = try_on_gpu(cfg, model, lasting, autocast, most)
        memory, why = f"the {total / 2**30:.1f} GiB of {name}", ""
    elif (room := host_pass_size.find_room(lasting)) is None:
        logger.info(f"{key}: {most} images, without a trial, since this system doesn't say what memory is available")
        return PassSize(most, name)
    else:
        total, memory = 0, "the memory"
        images, why = host_pass_size.find_images(
            lambda number: run_pass(model, make_trial_batch(cfg, number), autocast), room, most
        )
        why = f" ({why})"
    if not images:
        raise InputError(
            f"{key}: not even one image fits {memory}{why}: see docs/one_gpu.md for what takes less, such as "
            "MODEL.CONVMAE.ACTIVATION_CHECKPOINT True"
        )
    logger.info(f"{key}: {images} images fit {memory}{why}")
    return PassSize(images, name, total)


def try_on_gpu(cfg: CfgNode, model: nn.Module, lasting: int, autocast: AbstractContextManager, most: int) -> int:
    """Finds the images of a pass on a GPU, of which `lasting` bytes will be taken by other things."""

    def measure(images: int) -> int | None:
        """All processes try together, so that all find the same."""
        peaks = comm.all_gather(measure_pass(model, make_trial_batch(cfg, images), autocast))
        return None if None in peaks else max(peaks)

    free, _ = torch.cuda.mem_get_info(cfg.MODEL.DEVICE)
    usable = (free + torch.cuda.memory_reserved(cfg.MODEL.DEVICE)) * (1 - MARGIN) - lasting
    return find_most_images(measure, min(comm.all_gather(math.floor(usable))), most)


def log_recorded(recorded: PassSize, device: str) -> None:
    """Logs that a resumed run keeps its images in a pass, with a warning where the GPU is now a smaller one."""
    logger.info(f"{KEY}: {recorded.images} images, as since the start of the run")
    here = torch.cuda.mem_get_info(device)[1] if is_gpu(device) else 0
    if 0 < here < recorded.memory:
        logger.warning(
            f"{recorded.images} images fitted the {recorded.memory / 2**30:.1f} GiB of {recorded.device}; "
            f"{describe_device(device)} has {here / 2**30:.1f} GiB: if they don't fit, set SOLVER.MAX_IMS_PER_PASS to "
            "a smaller number, with which the rest of the run differs in rounding"
        )


def find_most_images(measure: Callable[[int], int | None], usable: int, most: int) -> int:
    """Finds how many images fit, by trial passes.

    Args:
        measure: gives the peak of memory, in bytes, of a pass over a number of images; None if memory ran out
        usable: bytes that a pass may take
        most: the largest number that is of use

    Returns:
        The number, at most `most`; 0 if memory runs out with one image.
    """
    tried = min(TRIAL_IMAGES, most)
    while (peak := measure(tried)) is None:
        tried //= 2
        if not tried:
            return 0
    if tried == 1:
        return 1
    half = tried // 2
    images = min(most, find_crossing((half, measure(half) or 0), (tried, peak), usable))
    while images > tried:
        larger = measure(images)
        if larger is not None:
            return images if larger <= usable else find_crossing((tried, peak), (images, larger), usable)
        images = max(images // 2, tried)
    return max(images, 1)


def find_crossing(first: tuple[int, int], second: tuple[int, int], usable: int) -> int:
    """Finds the most images for which the line through two points (images, bytes) stays within `usable` bytes."""
    slope = max((second[1] - first[1]) / (second[0] - first[0]), 1)  # bytes an image
    return math.floor(second[0] + (usable - second[1]) / slope)


def count_lasting(optimizer: torch.optim.Optimizer) -> int:
    """Counts the bytes that later passes will find taken: of gradients, and of the optimizer's moments.

    A trial pass has gradients only at its end. Those of a step's first pass are there in all of its second, as are
    always those that several processes exchange.
    """
    weights = (weight for group in optimizer.param_groups for weight in group["params"])
    return sum(weight.nbytes * (1 if weight in optimizer.state else 1 + MOMENTS) for weight in weights)


def make_trial_batch(cfg: CfgNode, images: int) -> list[dict]:
    """Makes random images of the size of training; those of a detector with as many objects as it trains on in one."""
    if is_segmentor(cfg):
        size, objects, images = cfg.INPUT.SEGMENTATION.CROP_SIZE, 0, max(images, 2 if needs_pairs(cfg) else 1)
    elif not is_detector(cfg):
        size, objects = cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE, 0
    else:
        size = cfg.INPUT.LSJ.IMAGE_SIZE if cfg.INPUT.LSJ.ENABLED else cfg.INPUT.MAX_SIZE_TRAIN
        heads = cfg.MODEL.ROI_HEADS
        objects = max(1, round(heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION))
    return [make_random_input(cfg, size, objects) for _ in range(images)]


def measure_pass(model: nn.Module, batch: Sequence[dict], autocast: AbstractContextManager) -> int | None:
    """Measures the most bytes that torch holds on the GPU during a pass; None if memory runs out."""
    device = next(model.parameters()).device
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        run_pass(model, batch, autocast)
    except torch.OutOfMemoryError:
        return None
    return torch.cuda.max_memory_allocated(device)


def run_pass(model: nn.Module, batch: Sequence[dict], autocast: AbstractContextManager) -> None:
    """Runs a forward and a backward pass that leave the model and its gradients as they were.

    A compiled model runs as it was before, which takes no less memory, and compiles nothing for a size of no use.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with EventStorage(), torch.compiler.set_stance("force_eager"):
            with autocast:
                losses = [loss for loss in model(batch).values() if loss.requires_grad]
            torch.autograd.grad(losses, weights, allow_unused=True)  # unlike backward(), without other processes
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
