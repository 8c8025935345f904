"""Every rule about the values under SOLVER, in one place."""

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..errors import InputError
from ..precision import AMP_DTYPES, require_gpu

SCHEDULERS = ("WarmupMultiStepLR", "WarmupCosineLR")
CLIP_TYPES = ("value", "norm", "full_model")


def check_solver(cfg: CfgNode) -> None:
    """Raises InputError, naming the key, for values of SOLVER with which nothing can be trained."""
    solver = cfg.SOLVER
    _check_length(solver)
    _check_batch(solver)
    _check_rates(solver)
    clip = solver.CLIP_GRADIENTS
    _require(clip.CLIP_TYPE in CLIP_TYPES, "CLIP_GRADIENTS.CLIP_TYPE", clip.CLIP_TYPE, f"be one of {_or(CLIP_TYPES)}")
    _require(clip.CLIP_VALUE > 0, "CLIP_GRADIENTS.CLIP_VALUE", clip.CLIP_VALUE, "be above 0")
    _require(clip.NORM_TYPE > 0, "CLIP_GRADIENTS.NORM_TYPE", clip.NORM_TYPE, "be above 0")
    _require(solver.AMP.DTYPE in AMP_DTYPES, "AMP.DTYPE", solver.AMP.DTYPE, f"be one of {_or(AMP_DTYPES)}")
    if solver.AMP.ENABLED:
        require_gpu(solver.AMP.DTYPE, cfg.MODEL.DEVICE, "SOLVER.AMP.DTYPE")


def _check_length(solver: CfgNode) -> None:
    _require(solver.MAX_ITER >= 0, "MAX_ITER", solver.MAX_ITER, "be at least 0; 0 leaves the length to MAX_EPOCHS")
    if solver.MAX_ITER == 0:
        _require(solver.MAX_EPOCHS > 0, "MAX_EPOCHS", solver.MAX_EPOCHS, "be above 0 as long as SOLVER.MAX_ITER is 0")
    _require(solver.WARMUP_EPOCHS >= 0, "WARMUP_EPOCHS", solver.WARMUP_EPOCHS, "be at least 0")
    _require(solver.WARMUP_ITERS >= 0, "WARMUP_ITERS", solver.WARMUP_ITERS, "be at least 0")
    _require(solver.CHECKPOINT_PERIOD > 0, "CHECKPOINT_PERIOD", solver.CHECKPOINT_PERIOD, "be at least 1 iteration")
    _require(solver.MAX_TO_KEEP >= 0, "MAX_TO_KEEP", solver.MAX_TO_KEEP, "be at least 0; 0 keeps all checkpoints")
    fractions, steps = solver.STEP_FRACTIONS, solver.STEPS
    rising = _rising(fractions) and all(0 < fraction < 1 for fraction in fractions)
    _require(rising, "STEP_FRACTIONS", fractions, "rise, and lie between 0 and 1")
    rising = _rising(steps) and all(isinstance(step, int) and step > 0 for step in steps)
    _require(rising, "STEPS", steps, "be whole iterations above 0 that rise")


def _check_batch(solver: CfgNode) -> None:
    parts, limit = solver.ACCUMULATION_STEPS, solver.MAX_IMS_PER_PASS
    _require(parts >= 0, "ACCUMULATION_STEPS", parts, "be at least 1, or 0 to follow from SOLVER.MAX_IMS_PER_PASS")
    _require(limit >= 0, "MAX_IMS_PER_PASS", limit, "be at least 0; 0 sets no limit")
    images, processes, least = solver.IMS_PER_BATCH, comm.get_world_size(), max(parts, 1)
    if images <= 0 or images % (least * processes):
        raise InputError(
            f"SOLVER.IMS_PER_BATCH is {images}; it must be a multiple of {least * processes}, "
            f"that is, of {processes} process{'es' * (processes > 1)} × SOLVER.ACCUMULATION_STEPS {least}"
        )
    reference = solver.REFERENCE_BATCH_SIZE
    _require(reference >= 0, "REFERENCE_BATCH_SIZE", reference, "be at least 0; 0 leaves the learning rate as it is")


def _check_rates(solver: CfgNode) -> None:
    name = solver.LR_SCHEDULER_NAME
    _require(name in SCHEDULERS, "LR_SCHEDULER_NAME", name, f"be one of {_or(SCHEDULERS)}")
    _require(
        solver.WARMUP_METHOD in ("linear", "constant"), "WARMUP_METHOD", solver.WARMUP_METHOD, "be linear or constant"
    )
    _require(0 <= solver.WARMUP_FACTOR <= 1, "WARMUP_FACTOR", solver.WARMUP_FACTOR, "lie between 0 and 1")
    _require(solver.BASE_LR > 0, "BASE_LR", solver.BASE_LR, "be above 0")
    end = solver.BASE_LR_END
    _require(0 <= end <= solver.BASE_LR, "BASE_LR_END", end, f"lie between 0 and SOLVER.BASE_LR, {solver.BASE_LR}")
    _require(solver.GAMMA > 0, "GAMMA", solver.GAMMA, "be above 0")
    betas = solver.BETAS
    valid = len(betas) == 2 and all(_is_number(beta) and 0 <= beta < 1 for beta in betas)
    _require(valid, "BETAS", betas, "be two numbers of at least 0 and below 1")
    _require(solver.WEIGHT_DECAY >= 0, "WEIGHT_DECAY", solver.WEIGHT_DECAY, "be at least 0")
    _require(0 < solver.LAYER_DECAY <= 1, "LAYER_DECAY", solver.LAYER_DECAY, "be above 0 and at most 1")


def _rising(values) -> bool:
    numbers = all(_is_number(value) for value in values)
    return numbers and all(low < high for low, high in zip(values, values[1:], strict=False))


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require(holds: bool, key: str, value, must: str) -> None:
    if not holds:
        raise InputError(f"SOLVER.{key} is {value!r}; it must {must}")


def _or(choices) -> str:
    return ", ".join(choices)
