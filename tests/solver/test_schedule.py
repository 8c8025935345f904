"""Epochs become iterations; the learning rate follows the batch and has the course that was asked for."""

import itertools
import logging
import math
from pathlib import Path

import pytest
import torch
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from hypothesis import given
from hypothesis import strategies as st
from reference.small import classifier_cfg, detector_cfg

from convmae_det.config.keys import AUTO
from convmae_det.errors import InputError
from convmae_det.solver.schedule import build_run_config, limit_passes, resolve_schedule


def solver(*options, images=100):
    return resolve_schedule(detector_cfg(*options), images).SOLVER


def rates(*options, images=100, cfg=None):
    """The learning rate of every iteration, as Detectron2's scheduler gives it."""
    cfg = cfg or detector_cfg()
    cfg.merge_from_list(list(options))
    cfg = resolve_schedule(cfg, images)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler, rates = build_lr_scheduler(cfg, optimizer), []
    for _ in range(cfg.SOLVER.MAX_ITER):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()  # also after the last iteration, as Detectron2's hook does
    return rates


def test_epochs_become_iterations():
    resolved = solver("SOLVER.MAX_EPOCHS", 9, "SOLVER.WARMUP_EPOCHS", 2, "SOLVER.IMS_PER_BATCH", 8, images=100)
    assert resolved.MAX_ITER == 113  # 9 · 100 / 8, rounded up: every image is seen nine times
    assert resolved.WARMUP_ITERS == 25
    assert resolved.STEPS == (100, 109)  # 8/9 and 26/27


def test_iterations_that_are_set_win():
    resolved = solver("SOLVER.MAX_ITER", 50, "SOLVER.STEPS", (10, 30, 60))
    assert resolved.MAX_ITER == 50
    assert resolved.STEPS == (10, 30)  # 60 is never reached


@given(
    images=st.integers(1, 10**6),
    batch=st.integers(1, 4096),
    epochs=st.integers(1, 100),
    warmup=st.integers(0, 50),
    iterations=st.integers(0, 200),
    reference=st.integers(0, 512),
    scheduler=st.sampled_from(["WarmupMultiStepLR", "WarmupCosineLR"]),
)
def test_a_resolved_schedule_stays_as_it_is_and_is_valid(
    images, batch, epochs, warmup, iterations, reference, scheduler
):
    cfg = detector_cfg("SOLVER.IMS_PER_BATCH", batch, "SOLVER.MAX_EPOCHS", epochs, "SOLVER.WARMUP_EPOCHS", warmup)
    cfg.merge_from_list(["SOLVER.MAX_ITER", iterations, "SOLVER.REFERENCE_BATCH_SIZE", reference])
    cfg.merge_from_list(["SOLVER.LR_SCHEDULER_NAME", scheduler])
    resolved = resolve_schedule(cfg, images)
    assert resolve_schedule(resolved, images + 1) == resolved
    assert 0 <= resolved.SOLVER.WARMUP_ITERS < resolved.SOLVER.MAX_ITER
    build_lr_scheduler(resolved, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=resolved.SOLVER.BASE_LR))


def test_the_given_configuration_is_not_changed():
    cfg = detector_cfg("SOLVER.IMS_PER_BATCH", 8)
    before = cfg.clone()
    cfg.freeze()
    assert resolve_schedule(cfg, 10).is_frozen()
    assert cfg == before


def test_the_learning_rate_follows_the_batch():
    options = ["SOLVER.BASE_LR", 1e-4, "SOLVER.BASE_LR_END", 1e-6, "SOLVER.IMS_PER_BATCH", 4]
    scaled = solver(*options, "SOLVER.REFERENCE_BATCH_SIZE", 16)
    assert (scaled.BASE_LR, scaled.BASE_LR_END) == pytest.approx((2.5e-5, 2.5e-7))
    fixed = solver(*options, "SOLVER.REFERENCE_BATCH_SIZE", 0)
    assert (fixed.BASE_LR, fixed.BASE_LR_END) == (1e-4, 1e-6)


@pytest.mark.parametrize("iterations", range(1, 12))
@pytest.mark.parametrize("scheduler", ["WarmupMultiStepLR", "WarmupCosineLR"])
@pytest.mark.parametrize("method", ["linear", "constant"])
@pytest.mark.parametrize("rescale", [False, True])
def test_trainings_of_any_length_have_a_schedule(iterations, scheduler, method, rescale):
    options = ["SOLVER.LR_SCHEDULER_NAME", scheduler, "SOLVER.WARMUP_METHOD", method]
    course = rates(*options, "SOLVER.MAX_ITER", iterations, "SOLVER.RESCALE_INTERVAL", rescale)
    assert len(course) == iterations
    assert min(course) > 0 and max(course) <= 1e-4


def test_steps():
    course = rates("SOLVER.MAX_ITER", 54, "SOLVER.WARMUP_ITERS", 10)
    assert course[0] == pytest.approx(1e-7)
    assert all(low < high for low, high in itertools.pairwise(course[:11]))
    assert course[10:48] == pytest.approx([1e-4] * 38)
    assert course[48:52] == pytest.approx([1e-5] * 4)
    assert course[52:] == pytest.approx([1e-6] * 2)


def test_cosine():
    options = ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", 1e-5, "SOLVER.MAX_ITER", 100]
    course = rates(*options, "SOLVER.WARMUP_ITERS", 0)
    assert course[0] == pytest.approx(1e-4)
    assert course[50] == pytest.approx(5.5e-5)
    assert course[-1] == pytest.approx(1e-5, rel=0.01)


def test_the_schedule_is_printed(caplog):
    with caplog.at_level(logging.INFO, "convmae_det"):
        solver("SOLVER.MAX_EPOCHS", 3, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.ACCUMULATION_STEPS", 2, images=1000)
    for text in ("750 iterations, 3 epochs", "250 iterations", "1000 images", "2.5e-05 = 0.0001 × 4/16", "667, 722"):
        assert text in caplog.text


def test_a_warm_up_longer_than_training_is_cut_and_said(caplog):
    with caplog.at_level(logging.WARNING, "convmae_det"):
        assert solver("SOLVER.MAX_ITER", 6).WARMUP_ITERS == 5
    assert "250 iterations is cut to 5" in caplog.text


def test_no_images():
    with pytest.raises(InputError, match=r"DATASETS\.TRAIN .*no images"):
        solver(images=0)


@given(batch=st.integers(1, 4096), limit=st.integers(0, 100), processes=st.integers(1, 8))
def test_accumulation_is_the_least_that_keeps_to_the_images_of_a_pass(batch, limit, processes):
    options = ["SOLVER.IMS_PER_BATCH", batch * processes, "SOLVER.ACCUMULATION_STEPS", 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comm, "get_world_size", lambda: processes)
        parts = solver(*options, "SOLVER.MAX_IMS_PER_PASS", limit).ACCUMULATION_STEPS
    in_a_pass = batch // parts
    assert in_a_pass * parts == batch and (in_a_pass <= limit or not limit)
    assert not [fewer for fewer in range(1, parts) if batch % fewer == 0 and (not limit or batch // fewer <= limit)]


def test_accumulation_that_is_set_wins():
    options = ["SOLVER.IMS_PER_BATCH", 8, "SOLVER.MAX_IMS_PER_PASS", 4]
    assert solver(*options, "SOLVER.ACCUMULATION_STEPS", 0).ACCUMULATION_STEPS == 2
    assert solver(*options, "SOLVER.ACCUMULATION_STEPS", 8).ACCUMULATION_STEPS == 8


def test_a_limit_that_is_found_later_cuts_the_batch_as_if_it_had_been_set(caplog):
    options = ["SOLVER.IMS_PER_BATCH", 24, "SOLVER.ACCUMULATION_STEPS", 0, "SOLVER.MAX_IMS_PER_PASS"]
    with caplog.at_level(logging.INFO, "convmae_det"):
        later = resolve_schedule(detector_cfg(*options, AUTO), 100)
        assert later.SOLVER.ACCUMULATION_STEPS == 0 and "in passes of what fits" in caplog.text
        limit_passes(later, 7)
        assert caplog.messages[-1] == "Batch: 24 images = processes 1 × accumulation steps 4 × images 6"
    assert later == resolve_schedule(detector_cfg(*options, 7), 100)


# config.yaml

KEYS = {
    "MAX_ITER": st.sampled_from([0, 0, 7, 90]),
    "MAX_EPOCHS": st.integers(1, 100),
    "WARMUP_EPOCHS": st.integers(0, 5),
    "WARMUP_ITERS": st.integers(0, 200),
    "STEPS": st.sampled_from([(), (), (3, 50)]),
    "STEP_FRACTIONS": st.sampled_from([[0.5], [8 / 9, 26 / 27]]),
    "IMS_PER_BATCH": st.integers(1, 64),
    "REFERENCE_BATCH_SIZE": st.integers(0, 512),
    "BASE_LR": st.sampled_from([1e-4, 1e-3]),
    "BASE_LR_END": st.sampled_from([0.0, 1e-6]),
    "MAX_IMS_PER_PASS": st.integers(AUTO, 64),
}
SOME = st.fixed_dictionaries({}, optional=KEYS)


def set_some(cfg, values):
    cfg.merge_from_list([word for key, value in values.items() for word in (f"SOLVER.{key}", value)])
    return cfg


@given(images=st.integers(1, 10**6), others=st.integers(1, 10**6), values=SOME)
def test_the_configuration_of_a_run_repeats_it_on_other_data(images, others, values):
    given_cfg = set_some(detector_cfg("SOLVER.ACCUMULATION_STEPS", 0), values)
    resolved = resolve_schedule(given_cfg, images)
    written = build_run_config(given_cfg, resolved)
    assert resolve_schedule(written, others) == resolved
    assert build_run_config(written, resolve_schedule(written, others)) == written


@given(images=st.integers(1, 10**6), values=SOME, later=SOME)
def test_what_is_set_later_counts_as_if_it_had_been_set_first(images, values, later):
    """On the same data."""
    given_cfg = set_some(detector_cfg("SOLVER.ACCUMULATION_STEPS", 0), values)
    written = build_run_config(given_cfg, resolve_schedule(given_cfg, images))
    at_once = resolve_schedule(set_some(given_cfg, later), images)
    assert resolve_schedule(set_some(written, later), images) == at_once


def test_a_batch_larger_than_the_data_is_said(caplog):
    with caplog.at_level(logging.WARNING, "convmae_det"):
        solver("SOLVER.IMS_PER_BATCH", 16, "SOLVER.WARMUP_ITERS", 0, images=16)
        assert not caplog.records
        solver("SOLVER.IMS_PER_BATCH", 16, "SOLVER.WARMUP_ITERS", 0, images=10)
    assert "A batch of 16 images is larger than DATASETS.TRAIN, which has 10" in caplog.text


def test_the_published_course_of_pretraining():
    """Linear from 0 over the warm-up, then half a cosine to 0 over the rest (MAE, arXiv 2111.06377, appendix A.1)."""
    cfg = detector_cfg()
    cfg.merge_from_file(str(Path(__file__).parents[2] / "configs/Base-Pretrain-ConvMAE.yaml"))
    options = ["SOLVER.IMS_PER_BATCH", 256, "SOLVER.MAX_EPOCHS", 160, "SOLVER.WARMUP_EPOCHS", 40]
    course = rates(*options, images=256, cfg=cfg)
    warmup = [1.5e-4 * epoch / 40 for epoch in range(40)]
    cosine = [1.5e-4 / 2 * (1 + math.cos(math.pi * epoch / 120)) for epoch in range(120)]
    assert course == pytest.approx(warmup + cosine, abs=1e-8)


@pytest.mark.parametrize("limit, parts", [(0, 1), (30, 2), (17, 5), (7, 10), (3, 30), (1, 60)])
def test_parts_of_pairs_where_images_are_mixed(limit, parts):
    """15 images a part would fit a limit of 17, but have no pairs."""
    cfg = classifier_cfg("SOLVER.IMS_PER_BATCH", 60, "SOLVER.ACCUMULATION_STEPS", 0, "SOLVER.MAX_IMS_PER_PASS", limit)
    cfg.INPUT.CLASSIFICATION.MIXUP = 0.8
    assert resolve_schedule(cfg, 60).SOLVER.ACCUMULATION_STEPS == parts
