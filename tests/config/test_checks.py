"""Values with which nothing can be made are named, in one form; all others work in what they are for."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from reference.small import autoencoder_cfg, classifier_cfg, detector_cfg, segmentor_cfg

from convmae_det.config.building import build_encoder_arguments
from convmae_det.config.checks.data import (
    CHANNELS,
    CROPS,
    FLIPS,
    check_classification_input,
    check_input,
    check_pretraining_input,
)
from convmae_det.config.checks.segmentation import check_segmentation_input
from convmae_det.config.checks.training import (
    CLIP_TYPES,
    SCHEDULERS,
    check_batch,
    check_fine_tuning,
    check_pretraining,
    check_solver,
)
from convmae_det.config.keys import AUTO
from convmae_det.data.detection.jitter import build_augmentations
from convmae_det.data.pretraining.mapper import PretrainingMapper
from convmae_det.errors import InputError
from convmae_det.precision import is_gpu
from convmae_det.solver.optimizer import build_gradient_clipper
from convmae_det.solver.schedule import build_lr_scheduler, resolve_schedule

NAN, INFINITE = float("nan"), float("inf")

SOLVER = [
    ("MAX_ITER", -1),
    ("MAX_EPOCHS", 0),
    ("MAX_EPOCHS", -2),
    ("WARMUP_EPOCHS", -1),
    ("WARMUP_ITERS", -1),
    ("CHECKPOINT_PERIOD", 0),
    ("MAX_TO_KEEP", -1),
    ("STEP_FRACTIONS", [0.5, 0.5]),
    ("STEP_FRACTIONS", [0.0, 0.5]),
    ("STEP_FRACTIONS", [0.5, 1.0]),
    ("STEP_FRACTIONS", ["a"]),
    ("STEPS", (20, 10)),
    ("STEPS", (0, 10)),
    ("STEPS", (1.5,)),
    ("ACCUMULATION_STEPS", -1),
    ("MAX_IMS_PER_PASS", -2),
    ("IMAGES_PER_EPOCH", -1),
    ("IMS_PER_BATCH", 0),
    ("IMS_PER_BATCH", -4),
    ("REFERENCE_BATCH_SIZE", -16),
    ("LR_SCHEDULER_NAME", "Cosine"),
    ("WARMUP_METHOD", "exponential"),
    ("WARMUP_FACTOR", -0.1),
    ("WARMUP_FACTOR", NAN),
    ("BASE_LR", 0.0),
    ("BASE_LR", -1e-4),
    ("BASE_LR", NAN),
    ("BASE_LR", INFINITE),
    ("BASE_LR_END", -1e-5),
    ("BASE_LR_END", 1.0),
    ("GAMMA", 0.0),
    ("BETAS", [0.9]),
    ("BETAS", [0.9, 1.0]),
    ("BETAS", ["a", "b"]),
    ("WEIGHT_DECAY", -0.1),
    ("WEIGHT_DECAY", INFINITE),
    ("LAYER_DECAY", 0.0),
    ("LAYER_DECAY", 1.1),
    ("EMA.DECAY", -0.1),
    ("EMA.DECAY", 1.0),
    ("EMA.DECAY", NAN),
    ("CLIP_GRADIENTS.CLIP_TYPE", "max"),
    ("CLIP_GRADIENTS.CLIP_VALUE", 0.0),
    ("CLIP_GRADIENTS.NORM_TYPE", 0.0),
    ("AMP.DTYPE", "half"),
]
OTHERS = [
    ("DATALOADER.NUM_WORKERS", -2),
    ("INPUT.FORMAT", "HSV"),
    ("INPUT.RANDOM_FLIP", "diagonal"),
    ("MODEL.PIXEL_MEAN", [1.0]),
    ("MODEL.PIXEL_MEAN", [1.0, NAN, 1.0]),
    ("MODEL.PIXEL_STD", [1.0, 1.0]),
    ("MODEL.PIXEL_STD", [1.0, 0.0, 1.0]),
]
OF_DETECTORS = [
    ("MODEL.META_ARCHITECTURE", "MaskedAutoencoder"),
    ("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler"),
    ("DATALOADER.REPEAT_THRESHOLD", 0.01),
    ("DATALOADER.REPEAT_THRESHOLD", NAN),
    ("DATALOADER.ASPECT_RATIO_GROUPING", True),
    ("INPUT.LSJ.IMAGE_SIZE", 0),
    ("INPUT.LSJ.MIN_SCALE", 0.0),
    ("INPUT.LSJ.MIN_SCALE", 3.0),
    ("INPUT.LSJ.MAX_SCALE", INFINITE),
    ("INPUT.LSJ.MAX_SCALE", 101.0),
    ("INPUT.MASK_FORMAT", "outline"),
    ("INPUT.CROP.ENABLED", True),
    ("INPUT.MIN_SIZE_TRAIN", (640, 800)),
    ("INPUT.MAX_SIZE_TRAIN", 1024),
    ("INPUT.MAX_SIZE_TRAIN", -1),
    ("INPUT.MIN_SIZE_TRAIN", ()),
    ("INPUT.MIN_SIZE_TRAIN", (0, 5)),
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "some"),
    ("INPUT.CROP.TYPE", "round"),
    ("INPUT.CROP.SIZE", [0.5, 1.5]),
    ("INPUT.CROP.SIZE", [0.5]),
    ("INPUT.MIN_SIZE_TEST", -1),
    ("INPUT.MAX_SIZE_TEST", 0),
    ("MODEL.META_ARCHITECTURE", "ProposalNetwork"),
    ("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "RRPN"),
    ("MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"),
    ("MODEL.ROI_HEADS.NAME", "Res5ROIHeads"),
    ("MODEL.ROI_HEADS.NAME", "RROIHeads"),
    ("TEST.EVAL_PERIOD", -2),
    ("TEST.EVAL_EPOCHS", -0.5),
    ("TEST.EVAL_EPOCHS", NAN),
    ("TEST.EVAL_EPOCHS", INFINITE),
    ("TEST.PATIENCE", -1),
    ("TEST.PATIENCE", 2),
    ("TEST.PRECISION", "half"),
    ("FLOAT32_PRECISION", "float32"),
    ("TEST.DETECTIONS_PER_IMAGE", 0),
    ("TEST.DETECTIONS_PER_IMAGE", -1),
    ("TEST.DETECTIONS_PER_IMAGE", 101),  # of 20 proposals
    ("MODEL.ROI_HEADS.SOFT_NMS.METHOD", "hard"),
    ("MODEL.ROI_HEADS.SOFT_NMS.SIGMA", 0.0),
    ("MODEL.ROI_HEADS.SOFT_NMS.SIGMA", NAN),
]
OF_PRETRAINING = [
    ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"),
    ("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 0),
    ("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 100),
    ("INPUT.PRETRAIN_CROP_SCALE", [0.0, 1.0]),
    ("INPUT.PRETRAIN_CROP_SCALE", [0.5, 0.2]),
    ("INPUT.PRETRAIN_CROP_SCALE", [0.5]),
    ("INPUT.PRETRAIN_CROP_SCALE", [NAN, 1.0]),
    ("TEST.PROBE", [["name", "folder"]]),
    ("TEST.PROBE", ["folder"]),
    ("TEST.PROBE", [["name", "folder", 3]]),
    ("TEST.PROBE", [["name", "a", "b"], ["name", "c", "d"]]),
    ("TEST.PROBE_EPOCHS", -1.0),
]
SOLVER = [(f"SOLVER.{key}", value) for key, value in SOLVER]


@pytest.mark.parametrize("key, value", [*SOLVER, *OTHERS, *OF_DETECTORS])
def test_what_no_detector_is_trained_with_is_named(key, value):
    with pytest.raises(InputError, match=rf"^{key} is .*; it must "):
        check_fine_tuning(detector_cfg(key, value), 1)


@pytest.mark.parametrize("key, value", [*SOLVER, *OTHERS, *OF_PRETRAINING])
def test_what_nothing_is_pretrained_with_is_named(key, value):
    with pytest.raises(InputError, match=rf"^{key} is .*; it must "):
        check_pretraining(autoencoder_cfg(key, value), 1)


def test_the_defaults_pass():
    check_fine_tuning(detector_cfg(), 1)
    check_pretraining(autoencoder_cfg(), 1)


def test_sizes_of_tests_are_not_asked_for_where_there_are_none():
    check_fine_tuning(detector_cfg("INPUT.MAX_SIZE_TEST", 0, "DATASETS.TEST", ()), 1)


@given(st.integers(1, 64), st.integers(0, 8), st.integers(1, 8))
@example(6, 4, 1)
@example(6, 0, 4)
def test_the_batch_must_divide_into_its_parts(images, parts, processes):
    cfg = detector_cfg("SOLVER.IMS_PER_BATCH", images, "SOLVER.ACCUMULATION_STEPS", parts)
    least = max(parts, 1) * processes
    if images % least == 0:
        check_batch(cfg, processes)
    else:
        with pytest.raises(InputError, match=rf"SOLVER\.IMS_PER_BATCH is {images}; it must be a multiple of {least},"):
            check_batch(cfg, processes)


@pytest.mark.parametrize(
    "limit, parts, fits",
    [(4, 0, True), (4, 2, True), (3, 2, False), (3, 4, True), (0, 1, True), (AUTO, 0, True), (AUTO, 1, False)],
)
def test_accumulation_steps_keep_to_the_images_of_a_pass(limit, parts, fits):
    options = ("SOLVER.IMS_PER_BATCH", 8, "SOLVER.MAX_IMS_PER_PASS", limit, "SOLVER.ACCUMULATION_STEPS", parts)
    if fits:
        check_batch(detector_cfg(*options), 1)
    else:
        shown = "auto" if limit == AUTO else limit
        with pytest.raises(InputError, match=rf"SOLVER.ACCUMULATION_STEPS is {parts}; it must be 0, .*_PASS {shown}"):
            check_batch(detector_cfg(*options), 1)


@pytest.mark.parametrize(
    "options, fits",
    [
        (("MODEL.RPN.POST_NMS_TOPK_TEST", 5000, "MODEL.RPN.PRE_NMS_TOPK_TEST", 1000), True),
        (("MODEL.RPN.POST_NMS_TOPK_TEST", 4999, "MODEL.RPN.PRE_NMS_TOPK_TEST", 5000), False),
        (("MODEL.RPN.POST_NMS_TOPK_TEST", 5000, "MODEL.RPN.PRE_NMS_TOPK_TEST", 999), False),
        (("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False), True),
        (
            ("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False)
            + ("MODEL.RETINANET.TOPK_CANDIDATES_TEST", 999),
            False,
        ),
    ],
)
def test_there_are_regions_for_all_objects(options, fits):
    cfg = detector_cfg("TEST.DETECTIONS_PER_IMAGE", 5000, *options)
    if fits:
        check_fine_tuning(cfg, 1)
    else:
        with pytest.raises(
            InputError, match=r"^TEST.DETECTIONS_PER_IMAGE is 5000; it must be at most 49\d\d, .* raise"
        ):
            check_fine_tuning(cfg, 1)


@pytest.mark.parametrize(
    "options",
    [
        ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
        ("TEST.AUG.ENABLED", True),
    ],
)
def test_soft_suppression_is_for_one_box_head_and_one_image(options):
    with pytest.raises(InputError, match=r"SOFT_NMS.METHOD is 'gaussian'; it must be empty "):
        check_fine_tuning(detector_cfg("MODEL.ROI_HEADS.SOFT_NMS.METHOD", "gaussian", *options), 1)


@pytest.mark.parametrize("key", ["MODEL.MASK_ON", "MODEL.KEYPOINT_ON"])
def test_retinanet_finds_boxes_alone(key):
    options = {"MODEL.META_ARCHITECTURE": "RetinaNet", "MODEL.MASK_ON": False, "MODEL.KEYPOINT_ON": False}
    check_fine_tuning(detector_cfg(*itertools.chain(*options.items())), 1)
    with pytest.raises(InputError, match=rf"^{key} is True; it must be False where .* RetinaNet"):
        check_fine_tuning(detector_cfg(*itertools.chain(*(options | {key: True}).items())), 1)


def test_a_cascade_has_boxes_for_all_classes_together():
    options = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG")
    check_fine_tuning(detector_cfg(*options, True), 1)
    with pytest.raises(InputError, match=r"CLS_AGNOSTIC_BBOX_REG is False; it must be True"):
        check_fine_tuning(detector_cfg(*options, False), 1)


@pytest.mark.parametrize(
    "options, key",
    [
        (("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False), "TEST.AUG.ENABLED"),
        (("MODEL.META_ARCHITECTURE", "PanopticFPN"), "TEST.AUG.ENABLED"),
        (("MODEL.KEYPOINT_ON", True), "TEST.AUG.ENABLED"),
        (("TEST.AUG.MIN_SIZES", ()), "TEST.AUG.MIN_SIZES"),
        (("TEST.AUG.MIN_SIZES", (0, 400)), "TEST.AUG.MIN_SIZES"),
        (("TEST.AUG.MAX_SIZE", 0), "TEST.AUG.MAX_SIZE"),
    ],
)
def test_what_can_not_be_augmented_at_test_time(options, key):
    check_fine_tuning(detector_cfg(*options, "TEST.AUG.ENABLED", False), 1)
    for check in (lambda cfg: check_fine_tuning(cfg, 1), lambda cfg: build_augmentations(cfg, False)):
        for tests in ((), ("coco_2017_val",)):
            with pytest.raises(InputError, match=rf"^{key} is .*; it must "):
                check(detector_cfg(*options, "TEST.AUG.ENABLED", True, "DATASETS.TEST", tests))


def test_expected_results_need_a_test():
    options = ("TEST.EXPECTED_RESULTS", [["bbox", "AP", 40.0, 1.0]], "DATASETS.TEST")
    check_fine_tuning(detector_cfg(*options, ("coco_2017_val",)), 1)
    with pytest.raises(InputError, match=r"TEST.EXPECTED_RESULTS is .*; it must be empty"):
        check_fine_tuning(detector_cfg(*options, ()), 1)


@pytest.mark.parametrize("value", ["always", 1])
def test_what_compilation_is_not(value):
    cfg = autoencoder_cfg()
    cfg.MODEL.COMPILE = value
    with pytest.raises(InputError, match=r"^MODEL\.COMPILE is .*; it must be True, False or auto"):
        build_encoder_arguments(cfg)


def test_float16_is_for_gpus():
    options = ["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "float16", "MODEL.DEVICE"]
    check_solver(detector_cfg(*options, "cuda"))
    with pytest.raises(InputError, match=r"SOLVER\.AMP\.DTYPE float16"):
        check_solver(detector_cfg(*options, "cpu"))
    check_solver(detector_cfg(*options, "cpu", "SOLVER.AMP.ENABLED", False))
    with pytest.raises(InputError, match=r"TEST\.PRECISION float16"):
        check_fine_tuning(detector_cfg("TEST.PRECISION", "float16"), 1)


# Whatever a program puts there is refused in a sentence or works.

KEYS = sorted({key for key, _ in (*SOLVER, *OTHERS, *OF_DETECTORS, *OF_PRETRAINING)} - {"MODEL.META_ARCHITECTURE"})
SCALARS = st.none() | st.booleans() | st.integers(-3, 200) | st.floats() | st.sampled_from(["", "a", "range"])
VALUES = SCALARS | st.lists(SCALARS, max_size=4) | st.lists(SCALARS, max_size=4).map(tuple)


def put(cfg, key, value):
    *nodes, name = key.split(".")
    for node in nodes:
        cfg = cfg[node]
    cfg[name] = value


def detector_cfg_with(group, values):
    cfg = detector_cfg()
    for key, value in values.items():
        put(cfg, f"{group}.{key}", value)
    return cfg


@pytest.mark.parametrize("key", KEYS)
@settings(max_examples=30)
@given(value=VALUES)
def test_any_value_has_its_sentence_or_passes(key, value):
    for make, check in ((detector_cfg, check_fine_tuning), (autoencoder_cfg, check_pretraining)):
        cfg = make()
        put(cfg, key, value)
        try:
            check(cfg, 1)
        except InputError as error:
            assert " is " in str(error) and "; it must " in str(error)


SIZES = st.sampled_from([-1, 0, 1, 2, 7, 32, 64])
SHARES = st.sampled_from([-0.5, 0.0, 0.1, 0.5, 1.0, 1.5, 2.0, NAN, INFINITE])
SIDES = st.lists(SIZES | SHARES, min_size=1, max_size=3)


@given(
    size=st.tuples(st.integers(5, 300), st.integers(5, 60)),  # a tenth of a side is a pixel
    is_train=st.booleans(),
    values=st.fixed_dictionaries(
        {
            "MIN_SIZE_TRAIN": st.lists(SIZES, max_size=3).map(tuple),
            "MIN_SIZE_TRAIN_SAMPLING": st.sampled_from(["choice", "range"]),
            "MAX_SIZE_TRAIN": SIZES,
            "MIN_SIZE_TEST": SIZES,
            "MAX_SIZE_TEST": SIZES,
            "CROP.ENABLED": st.booleans(),
            "CROP.TYPE": st.sampled_from(CROPS),
            "CROP.SIZE": SIDES,
            "LSJ.ENABLED": st.booleans(),
            "LSJ.IMAGE_SIZE": SIZES,
            "LSJ.MIN_SCALE": SHARES,
            "LSJ.MAX_SCALE": SHARES,
            "RANDOM_FLIP": st.sampled_from(FLIPS),
        }
    ),
)
def test_images_can_be_augmented_as_soon_as_the_values_pass(size, is_train, values):
    try:
        augmentations = build_augmentations(detector_cfg_with("INPUT", values), is_train)
    except InputError:
        return
    image = T.AugInput(np.zeros((*size, 3), np.uint8))
    T.AugmentationList(augmentations)(image)
    assert min(image.image.shape) > 0


@pytest.mark.parametrize("kind, size", [("absolute", [20, 30]), ("absolute_range", [20, 30]), ("relative", [0.5, 1.0])])
def test_crops_that_detectron2_takes_pass(kind, size):
    cfg = detector_cfg("INPUT.LSJ.ENABLED", False, "INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", kind)
    cfg.INPUT.CROP.SIZE = size
    crop, *_ = build_augmentations(cfg, True)
    assert isinstance(crop, T.RandomCrop)


@pytest.mark.parametrize("kind, size", [("absolute", [20.5, 30]), ("absolute_range", [30, 20])])
def test_crops_that_fail_in_detectron2_do_not_pass(kind, size):
    with pytest.raises(InputError, match=rf"INPUT.CROP.SIZE is .* it must be two whole .* INPUT.CROP.TYPE is {kind}$"):
        check_fine_tuning(detector_cfg("INPUT.CROP.TYPE", kind, "INPUT.CROP.SIZE", size), 1)


@given(
    scale=st.lists(SHARES, min_size=1, max_size=3),
    size=SIZES,
    flip=st.sampled_from(FLIPS),
    image_format=st.sampled_from([*CHANNELS]),
)
def test_images_can_be_cropped_as_soon_as_the_values_pass(tmp_path, scale, size, flip, image_format):
    cfg = autoencoder_cfg("INPUT.FORMAT", image_format, "MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", size)
    cfg.INPUT.PRETRAIN_CROP_SCALE, cfg.INPUT.RANDOM_FLIP = scale, flip
    try:
        mapper = PretrainingMapper(cfg)
    except InputError:
        return
    Image.new("RGB", (30, 20)).save(tmp_path / "image.png")
    image = mapper({"file_name": str(tmp_path / "image.png")})["image"]
    assert image.shape == (len(cfg.MODEL.PIXEL_MEAN), size, size)


RATES = st.sampled_from([-1.0, 0.0, 1e-4, 0.5, 1.0, 2.0, NAN, INFINITE])
COUNTS = st.integers(-1, 5)


@given(
    images=st.integers(1, 50),
    values=st.fixed_dictionaries(
        {
            "MAX_ITER": COUNTS,
            "MAX_EPOCHS": COUNTS,
            "WARMUP_EPOCHS": COUNTS,
            "WARMUP_ITERS": COUNTS,
            "WARMUP_FACTOR": RATES,
            "WARMUP_METHOD": st.sampled_from(["linear", "constant"]),
            "LR_SCHEDULER_NAME": st.sampled_from(SCHEDULERS),
            "STEPS": st.lists(COUNTS, max_size=3).map(tuple),
            "STEP_FRACTIONS": st.lists(RATES, max_size=3),
            "IMS_PER_BATCH": COUNTS,
            "ACCUMULATION_STEPS": COUNTS,
            "MAX_IMS_PER_PASS": COUNTS,
            "REFERENCE_BATCH_SIZE": COUNTS,
            "BASE_LR": RATES,
            "BASE_LR_END": RATES,
            "GAMMA": RATES,
            "CLIP_GRADIENTS.ENABLED": st.booleans(),
            "CLIP_GRADIENTS.CLIP_TYPE": st.sampled_from(CLIP_TYPES),
            "CLIP_GRADIENTS.CLIP_VALUE": RATES,
            "CLIP_GRADIENTS.NORM_TYPE": RATES,
        }
    ),
)
@example(3, {"MAX_ITER": 2})
def test_the_solver_works_as_soon_as_the_values_pass(images, values):
    try:
        cfg = resolve_schedule(detector_cfg_with("SOLVER", values), images)
    except InputError:
        return
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.SOLVER.BASE_LR)
    parameter.grad = torch.ones(1)
    if clip := build_gradient_clipper(cfg):
        clip([parameter])
    scheduler = build_lr_scheduler(cfg, optimizer)
    for _ in range(cfg.SOLVER.MAX_ITER):
        optimizer.step()
        scheduler.step()
        assert math.isfinite(optimizer.param_groups[0]["lr"])
    assert parameter.isfinite().all()


def test_the_device_of_the_tests_is_no_gpu():
    """float16 is refused above because of that."""
    assert not is_gpu(detector_cfg().MODEL.DEVICE)


@pytest.mark.parametrize("key", ["TRAIN", "TEST"])
def test_labels_in_shards_are_not_expected(key):
    shards = ("DATASETS.SHARDS", [["mine", "a/{000..009}.tar"]])
    named = (*shards, f"DATASETS.{key}", ("mine",))
    check_classification_input(classifier_cfg(*shards))
    for cfg, check in [
        (classifier_cfg(*named), check_classification_input),
        (detector_cfg(*named), functools.partial(check_input, is_train=True)),
        (segmentor_cfg(*named), functools.partial(check_segmentation_input, is_train=True)),
    ]:
        with pytest.raises(
            InputError, match=rf"^DATASETS\.{key} is .*'mine'.*; it must name no shards beside pretrain"
        ):
            check(cfg)
    check_pretraining_input(autoencoder_cfg(*named))
