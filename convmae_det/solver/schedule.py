"""Computes the training schedule in iterations from a configuration in epochs and images."""

import logging
import math

import detectron2.solver
import torch
from detectron2.config import CfgNode
from detectron2.solver.lr_scheduler import LRMultiplier, WarmupParamScheduler
from detectron2.utils import comm
from fvcore.common.param_scheduler import PolynomialDecayParamScheduler
from torch.optim.lr_scheduler import LRScheduler

from ..config.architectures import needs_pairs
from ..config.checks.training import check_batch, check_solver
from ..config.keys import AUTO
from ..errors import InputError

logger = logging.getLogger(__name__)


def resolve_schedule(cfg: CfgNode, num_images: int) -> CfgNode:
    """Returns a copy of `cfg` with the schedule in Detectron2's form, for `num_images` training images, and logs it.

    MAX_EPOCHS becomes MAX_ITER (unless that is set), WARMUP_EPOCHS becomes WARMUP_ITERS, EVAL_EPOCHS becomes
    EVAL_PERIOD, STEP_FRACTIONS becomes STEPS (unless that is set), BASE_LR and BASE_LR_END are scaled to the batch,
    ACCUMULATION_STEPS 0 becomes the least number that MAX_IMS_PER_PASS allows, unless that is auto: see `limit_passes`.
    An epoch has IMAGES_PER_EPOCH images if that is set; else that becomes `num_images`. Resolving the result again, for
    any number of images, changes nothing.

    Raises:
        InputError: values that make no schedule, by their key; a data set without images.
    """
    check_solver(cfg)
    check_batch(cfg, comm.get_world_size())
    if num_images <= 0:
        raise InputError(f"DATASETS.TRAIN {list(cfg.DATASETS.TRAIN)} has no images to train on")
    resolved = cfg.clone()
    resolved.defrost()
    solver, test = resolved.SOLVER, resolved.TEST
    solver.IMAGES_PER_EPOCH = solver.IMAGES_PER_EPOCH or num_images
    if not solver.MAX_ITER:
        solver.MAX_ITER = count_iterations(solver, solver.MAX_EPOCHS)
    if solver.WARMUP_EPOCHS:
        solver.WARMUP_ITERS, solver.WARMUP_EPOCHS = count_iterations(solver, solver.WARMUP_EPOCHS), 0
    if test.EVAL_EPOCHS:
        test.EVAL_PERIOD, test.EVAL_EPOCHS = count_iterations(solver, test.EVAL_EPOCHS), 0.0
    wanted_warmup, solver.WARMUP_ITERS = solver.WARMUP_ITERS, min(solver.WARMUP_ITERS, solver.MAX_ITER - 1)
    _resolve_steps(solver)
    if not solver.ACCUMULATION_STEPS and solver.MAX_IMS_PER_PASS != AUTO:
        solver.ACCUMULATION_STEPS = _find_least_accumulation(cfg, solver.MAX_IMS_PER_PASS)
    if solver.REFERENCE_BATCH_SIZE:
        scale = solver.IMS_PER_BATCH / solver.REFERENCE_BATCH_SIZE
        solver.BASE_LR, solver.BASE_LR_END = solver.BASE_LR * scale, solver.BASE_LR_END * scale
        solver.REFERENCE_BATCH_SIZE = solver.IMS_PER_BATCH
    logger.info(_describe_schedule(cfg.SOLVER, solver))
    if solver.IMS_PER_BATCH > num_images:
        logger.warning(
            f"A batch of {solver.IMS_PER_BATCH} images is larger than DATASETS.TRAIN, which has {num_images}: each "
            "step sees some of them several times; lower SOLVER.IMS_PER_BATCH"
        )
    if wanted_warmup > solver.WARMUP_ITERS:
        logger.warning(
            f"The warm-up of {wanted_warmup} iterations is cut to {solver.WARMUP_ITERS}: training is not longer"
        )
    if cfg.is_frozen():
        resolved.freeze()
    return resolved


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Builds SOLVER.LR_SCHEDULER_NAME: Detectron2's schedules, or WarmupPolyLR."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return detectron2.solver.build_lr_scheduler(cfg, optimizer)
    warmup = min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
    multiplier = WarmupParamScheduler(
        PolynomialDecayParamScheduler(1.0, solver.POLY_POWER),
        solver.WARMUP_FACTOR,
        warmup,
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=solver.MAX_ITER)


def count_iterations(solver: CfgNode, epochs: float) -> int:
    """Counts the iterations in which so many epochs are complete; `solver` is resolved."""
    return math.ceil(epochs * solver.IMAGES_PER_EPOCH / solver.IMS_PER_BATCH)


def build_run_config(given: CfgNode, resolved: CfgNode) -> CfgNode:
    """Builds the config.yaml of a run: what the user has `given`, with the seed and the size of an epoch as `resolved`.

    A run that starts from it repeats this one, even on other data; and whatever key is set there, all that depends on
    it is computed anew.
    """
    config = given.clone()
    config.defrost()
    config.SEED, config.SOLVER.IMAGES_PER_EPOCH = resolved.SEED, resolved.SOLVER.IMAGES_PER_EPOCH
    return config


def limit_passes(resolved: CfgNode, images: int) -> None:
    """Puts a number in place of MAX_IMS_PER_PASS auto, and the ACCUMULATION_STEPS that follow, and logs them.

    Args:
        resolved: changed in place
        images: the most in one pass of a process
    """
    solver = resolved.SOLVER
    solver.MAX_IMS_PER_PASS = images
    solver.ACCUMULATION_STEPS = _find_least_accumulation(resolved, images)
    logger.info(f"Batch: {_describe_batch(solver)}")


def _resolve_steps(solver: CfgNode) -> None:
    """Computes the steps in iterations; those are left out that a short training doesn't reach or that are equal."""
    if solver.LR_SCHEDULER_NAME != "WarmupMultiStepLR":
        return
    steps = solver.STEPS or {round(fraction * solver.MAX_ITER) for fraction in solver.STEP_FRACTIONS}
    solver.STEPS = tuple(sorted(step for step in steps if 0 < step < solver.MAX_ITER))


def _find_least_accumulation(cfg: CfgNode, limit: int) -> int:
    """Finds the least number of equal parts of a batch with at most `limit` images each in a process; 0: no limit.

    Where images are needed in pairs, parts of an even number of images come first.
    """
    share = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    fitting = [parts for parts in range(1, share + 1) if share % parts == 0 and share <= parts * (limit or share)]
    even = (parts for parts in fitting if share // parts % 2 == 0 or not needs_pairs(cfg))
    return next(even, fitting[0])


def _describe_batch(solver: CfgNode) -> str:
    processes, parts = comm.get_world_size(), solver.ACCUMULATION_STEPS
    if not parts:
        return f"{solver.IMS_PER_BATCH} images, in passes of what fits (SOLVER.MAX_IMS_PER_PASS auto)"
    images = solver.IMS_PER_BATCH // (processes * parts)
    return f"{solver.IMS_PER_BATCH} images = processes {processes} × accumulation steps {parts} × images {images}"


def _describe_schedule(given: CfgNode, solver: CfgNode) -> str:
    per_epoch = solver.IMAGES_PER_EPOCH / solver.IMS_PER_BATCH
    rate = f"{solver.BASE_LR:.6g}"
    if solver.BASE_LR != given.BASE_LR:
        rate += f" = {given.BASE_LR:.6g} × {solver.IMS_PER_BATCH}/{given.REFERENCE_BATCH_SIZE} images"
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = ", ".join(map(str, solver.STEPS)) or "none"
        course = f"× {solver.GAMMA:g} at iterations {steps}"
    elif solver.LR_SCHEDULER_NAME == "WarmupPolyLR":
        course = f"to 0 with the power {solver.POLY_POWER:g} of what is left"
    else:
        course = f"cosine to {solver.BASE_LR_END:.6g}"
    recorded = " (SOLVER.IMAGES_PER_EPOCH)" if given.IMAGES_PER_EPOCH else ""
    lines = {
        "length": f"{solver.MAX_ITER} iterations, {solver.MAX_ITER / per_epoch:.4g} epochs",
        "epoch": f"{solver.IMAGES_PER_EPOCH} images{recorded}, {per_epoch:.6g} iterations",
        "batch": _describe_batch(solver),
        "warm-up": f"{solver.WARMUP_ITERS} iterations",
        "learning rate": rate,
        "then": course,
    }
    return "Schedule:\n" + "\n".join(f"  {name:<14} {line}" for name, line in lines.items())
