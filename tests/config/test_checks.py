"""Values of SOLVER that make no training are named."""

import pytest
from reference.small import detector_cfg

from convmae_det.config.checks import check_solver
from convmae_det.errors import InputError

NOT = float("nan")


@pytest.mark.parametrize(
    "key, value",
    [
        ("MAX_ITER", -1),
        ("MAX_EPOCHS", 0),
        ("MAX_EPOCHS", -2),
        ("WARMUP_EPOCHS", -1),
        ("WARMUP_ITERS", -1),
        ("CHECKPOINT_PERIOD", 0),
        ("STEP_FRACTIONS", [0.5, 0.5]),
        ("STEP_FRACTIONS", [0.0, 0.5]),
        ("STEP_FRACTIONS", [0.5, 1.0]),
        ("STEP_FRACTIONS", ["a"]),
        ("STEPS", (20, 10)),
        ("STEPS", (0, 10)),
        ("STEPS", (1.5,)),
        ("ACCUMULATION_STEPS", -1),
        ("MAX_IMS_PER_PASS", -1),
        ("IMS_PER_BATCH", 0),
        ("REFERENCE_BATCH_SIZE", -16),
        ("LR_SCHEDULER_NAME", "Cosine"),
        ("WARMUP_METHOD", "exponential"),
        ("WARMUP_FACTOR", -0.1),
        ("BASE_LR", 0.0),
        ("BASE_LR", -1e-4),
        ("BASE_LR", NOT),
        ("BASE_LR_END", -1e-5),
        ("BASE_LR_END", 1.0),
        ("GAMMA", 0.0),
        ("BETAS", [0.9]),
        ("BETAS", [0.9, 1.0]),
        ("BETAS", ["a", "b"]),
        ("WEIGHT_DECAY", -0.1),
        ("LAYER_DECAY", 0.0),
        ("LAYER_DECAY", 1.1),
        ("CLIP_GRADIENTS.CLIP_TYPE", "max"),
        ("CLIP_GRADIENTS.CLIP_VALUE", 0.0),
        ("CLIP_GRADIENTS.NORM_TYPE", 0.0),
        ("AMP.DTYPE", "half"),
    ],
)
def test_a_bad_value_is_named(key, value):
    with pytest.raises(InputError, match=rf"SOLVER\.{key} is .*must"):
        check_solver(detector_cfg(f"SOLVER.{key}", value))


def test_the_batch_must_divide_into_its_parts():
    check_solver(detector_cfg("SOLVER.IMS_PER_BATCH", 6, "SOLVER.ACCUMULATION_STEPS", 3))
    with pytest.raises(InputError, match=r"SOLVER\.IMS_PER_BATCH is 6; it must be a multiple of 4"):
        check_solver(detector_cfg("SOLVER.IMS_PER_BATCH", 6, "SOLVER.ACCUMULATION_STEPS", 4))


def test_float16_is_for_gpus():
    options = ["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "float16", "MODEL.DEVICE"]
    check_solver(detector_cfg(*options, "cuda"))
    with pytest.raises(InputError, match=r"SOLVER\.AMP\.DTYPE float16"):
        check_solver(detector_cfg(*options, "cpu"))
    check_solver(detector_cfg(*options, "cpu", "SOLVER.AMP.ENABLED", False))


def test_the_defaults_pass():
    check_solver(detector_cfg())
