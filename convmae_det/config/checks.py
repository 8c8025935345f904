"""All rules about values of the configuration, whose errors have one form: "KEY is VALUE; it must …".

What depends on loaded data, such as the number of classes, is checked where they are loaded. Nothing here needs
Detectron2.
"""

import itertools
import math
from collections.abc import Sequence
from operator import attrgetter

from yacs.config import CfgNode

from ..errors import InputError
from ..precision import AMP_DTYPES, DTYPES, TRAINED, check_name, require_gpu
from .architectures import is_detector
from .presets import PRESETS, STRIDE
from .unused import is_same, list_unused

CHANNELS = {"RGB": 3, "BGR": 3, "L": 1, "RGBA": 4}  # of each INPUT.FORMAT,
BANDS = "bands"  # except this one, whose images have as many channels as MODEL.PIXEL_MEAN has entries
MAX_PIXELS = 178_956_970  # of an image unless INPUT.MAX_PIXELS is set: Pillow's own limit
MAX_WHITE = 2**24 - 1
FLIPS = ("none", "horizontal", "vertical")
MASK_FORMATS = ("polygon", "bitmask")
CROPS = ("relative", "relative_range", "absolute", "absolute_range")
MAX_SCALE = 100  # of large-scale jitter, relative to the crop: limits the size of the image before cropping
# Keys of INPUT that large-scale jitter replaces, at their defaults.
BESIDE_JITTER = {"CROP.ENABLED": False, "MIN_SIZE_TRAIN": (800,), "MIN_SIZE_TRAIN_SAMPLING": "choice"}
BESIDE_JITTER |= {"MAX_SIZE_TRAIN": 1333}
SCHEDULERS = ("WarmupMultiStepLR", "WarmupCosineLR")
CLIP_TYPES = ("value", "norm", "full_model")
RELATIVE_POSITIONS = ("shared", "decomposed", "none")
FEATURES = ("e1", "e2", "e3", "e4")
MASKINGS = ("block", "random")
ONCE, REPEATED = "TrainingSampler", "RepeatFactorTrainingSampler"
# What Detectron2 has registered, but nothing here can train or evaluate.
IMPOSSIBLE = {
    "MODEL.META_ARCHITECTURE": {
        "ProposalNetwork": "be a detector with classes, such as GeneralizedRCNN",
        "SemanticSegmentor": "be a detector, such as PanopticFPN, which also labels regions",
    },
    "MODEL.PROPOSAL_GENERATOR.NAME": {
        "PrecomputedProposals": "be RPN, for proposals are not read from files",
        "RRPN": "be RPN, for boxes have no angle",
    },
    "MODEL.ANCHOR_GENERATOR.NAME": {
        "RotatedAnchorGenerator": "be DefaultAnchorGenerator, for boxes have no angle",
    },
    "MODEL.ROI_HEADS.NAME": {
        "Res5ROIHeads": "be StandardROIHeads or CascadeROIHeads, for there is no fifth stage of a ResNet",
        "RROIHeads": "be StandardROIHeads or CascadeROIHeads, for boxes have no angle",
    },
}


def require(holds: object, key: str, value: object, must: str) -> None:
    """Checks a rule.

    Args:
        holds: whether the rule holds
        key: the key or option that the rule is about
        value: its value
        must: the rule, as the end of the sentence "it must …"

    Raises:
        InputError: the rule doesn't hold.
    """
    if not holds:
        raise InputError(f"{key} is {value!r}; it must {must}")


def check_at_least(cfg: CfgNode, key: str, least: float, why: str = "") -> None:
    """Checks that the value of `key` is a number of at least `least`; `why` ends the sentence of the error."""
    value = attrgetter(key)(cfg)
    require(is_number(value) and value >= least, key, value, f"be at least {least}{why}")


def check_above(cfg: CfgNode, key: str, bound: float, why: str = "") -> None:
    """Checks that the value of `key` is a number above `bound`; `why` ends the sentence of the error."""
    value = attrgetter(key)(cfg)
    require(is_number(value) and value > bound, key, value, f"be above {bound}{why}")


def check_one_of(cfg: CfgNode, key: str, choices: Sequence[str]) -> None:
    """Checks that the value of `key` is one of `choices`."""
    value = attrgetter(key)(cfg)
    require(value in choices, key, value, f"be one of {', '.join(choices)}")


def is_number(value: object) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def are_numbers(values: object, count: int | None = None) -> bool:
    """Whether `values` is a sequence of finite numbers, `count` of them."""
    if not isinstance(values, (list, tuple)) or count not in (None, len(values)):
        return False
    return all(map(is_number, values))


def is_rising(values: Sequence[float]) -> bool:
    """Whether each value is above the one before."""
    return all(low < high for low, high in itertools.pairwise(values))


# Runs


def check_fine_tuning(cfg: CfgNode, processes: int) -> None:
    """Checks everything about fine-tuning a detector in `processes` that can be checked before reading data."""
    require(
        is_detector(cfg),
        "MODEL.META_ARCHITECTURE",
        cfg.MODEL.META_ARCHITECTURE,
        "be a detector, as in configs/mask_rcnn_convmae_b.yaml",
    )
    check_unused(cfg)
    check_architecture(cfg)
    check_solver(cfg)
    check_loader(cfg)
    check_batch(cfg, processes)
    check_order(cfg)
    check_input(cfg, is_train=True)
    check_test_time_augmentation(cfg)
    check_evaluation(cfg)
    if cfg.DATASETS.TEST:
        check_input(cfg, is_train=False)


def check_pretraining(cfg: CfgNode, processes: int) -> None:
    """Checks everything about pretraining in `processes` that can be checked before reading data."""
    require(
        not is_detector(cfg),
        "MODEL.META_ARCHITECTURE",
        cfg.MODEL.META_ARCHITECTURE,
        "be MaskedAutoencoder for pretraining, as in configs/pretrain_convmae_b.yaml",
    )
    check_unused(cfg)
    check_solver(cfg)
    check_loader(cfg)
    check_batch(cfg, processes)
    check_pretraining_input(cfg)


def check_unused(cfg: CfgNode) -> None:
    """Checks that no key has been changed that nothing reads."""
    for key, (values, why) in list_unused(cfg).items():
        value = attrgetter(key)(cfg)
        holds = any(is_same(value, harmless) for harmless in values)
        require(holds, key, value, f"stay {values[0]!r}, since it would change nothing: {why}")


def check_process_timeout(cfg: CfgNode) -> None:
    """Checks SOLVER.PROCESS_TIMEOUT."""
    check_above(cfg, "SOLVER.PROCESS_TIMEOUT", 0, " seconds")


# SOLVER


def check_solver(cfg: CfgNode) -> None:
    """Checks the schedule, the optimizer, the average of the weights and mixed precision."""
    _check_length(cfg)
    _check_rates(cfg)
    _check_average(cfg)
    check_one_of(cfg, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", CLIP_TYPES)
    check_above(cfg, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0)
    check_above(cfg, "SOLVER.CLIP_GRADIENTS.NORM_TYPE", 0)
    check_name(cfg.SOLVER.AMP.DTYPE, "SOLVER.AMP.DTYPE", AMP_DTYPES)
    if cfg.SOLVER.AMP.ENABLED:
        require_gpu(cfg.SOLVER.AMP.DTYPE, cfg.MODEL.DEVICE, "SOLVER.AMP.DTYPE")


def _check_length(cfg: CfgNode) -> None:
    check_at_least(cfg, "SOLVER.MAX_ITER", 0, "; 0 leaves the length to SOLVER.MAX_EPOCHS")
    if cfg.SOLVER.MAX_ITER == 0:
        check_above(cfg, "SOLVER.MAX_EPOCHS", 0, " as long as SOLVER.MAX_ITER is 0")
    check_at_least(cfg, "SOLVER.IMAGES_PER_EPOCH", 0, "; 0 is the number in DATASETS.TRAIN")
    check_at_least(cfg, "SOLVER.WARMUP_EPOCHS", 0)
    check_at_least(cfg, "SOLVER.WARMUP_ITERS", 0)
    check_at_least(cfg, "SOLVER.CHECKPOINT_PERIOD", 1, " iteration")
    check_at_least(cfg, "SOLVER.MAX_TO_KEEP", 0, "; 0 keeps all checkpoints")
    fractions, steps = cfg.SOLVER.STEP_FRACTIONS, cfg.SOLVER.STEPS
    holds = are_numbers(fractions) and is_rising(fractions) and all(0 < fraction < 1 for fraction in fractions)
    require(holds, "SOLVER.STEP_FRACTIONS", fractions, "rise, and lie between 0 and 1")
    holds = are_numbers(steps) and is_rising(steps) and all(isinstance(step, int) and step > 0 for step in steps)
    require(holds, "SOLVER.STEPS", steps, "be whole iterations above 0 that rise")


def _check_rates(cfg: CfgNode) -> None:
    check_one_of(cfg, "SOLVER.LR_SCHEDULER_NAME", SCHEDULERS)
    check_one_of(cfg, "SOLVER.WARMUP_METHOD", ("linear", "constant"))
    factor, rate, end = cfg.SOLVER.WARMUP_FACTOR, cfg.SOLVER.BASE_LR, cfg.SOLVER.BASE_LR_END
    require(is_number(factor) and 0 <= factor <= 1, "SOLVER.WARMUP_FACTOR", factor, "lie between 0 and 1")
    check_above(cfg, "SOLVER.BASE_LR", 0)
    holds = is_number(end) and 0 <= end <= rate
    require(holds, "SOLVER.BASE_LR_END", end, f"lie between 0 and SOLVER.BASE_LR, {rate}")
    check_at_least(cfg, "SOLVER.REFERENCE_BATCH_SIZE", 0, "; 0 doesn't scale the learning rate")
    check_above(cfg, "SOLVER.GAMMA", 0)
    betas, decay = cfg.SOLVER.BETAS, cfg.SOLVER.LAYER_DECAY
    holds = are_numbers(betas, 2) and all(0 <= beta < 1 for beta in betas)
    require(holds, "SOLVER.BETAS", betas, "be two numbers of at least 0 and below 1")
    check_at_least(cfg, "SOLVER.WEIGHT_DECAY", 0)
    require(is_number(decay) and 0 < decay <= 1, "SOLVER.LAYER_DECAY", decay, "be above 0 and at most 1")


def _check_average(cfg: CfgNode) -> None:
    decay = cfg.SOLVER.EMA.DECAY
    holds = is_number(decay) and 0 <= decay < 1
    require(holds, "SOLVER.EMA.DECAY", decay, "be at least 0 and below 1, such as 0.9999; 0 averages no weights")


def check_batch(cfg: CfgNode, processes: int) -> None:
    """Checks that the images of an optimizer step can be divided among `processes` and accumulation steps."""
    check_at_least(cfg, "SOLVER.ACCUMULATION_STEPS", 0, "; 0 follows from SOLVER.MAX_IMS_PER_PASS")
    check_at_least(cfg, "SOLVER.MAX_IMS_PER_PASS", 0, "; 0 sets no limit")
    images, parts, limit = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS, cfg.SOLVER.MAX_IMS_PER_PASS
    passes = max(parts, 1) * processes
    require(
        is_number(images) and images > 0 and images % passes == 0,
        "SOLVER.IMS_PER_BATCH",
        images,
        f"be a multiple of {passes}, that is, of {processes} process{'es' * (processes > 1)} × "
        f"SOLVER.ACCUMULATION_STEPS {max(parts, 1)}",
    )
    must = f"be 0, from which the least number follows that keeps to SOLVER.MAX_IMS_PER_PASS {limit}, or be higher"
    require(not (parts and limit) or images <= passes * limit, "SOLVER.ACCUMULATION_STEPS", parts, must)


# INPUT and DATALOADER


def check_loader(cfg: CfgNode) -> None:
    """Checks DATALOADER.NUM_WORKERS."""
    check_at_least(cfg, "DATALOADER.NUM_WORKERS", 0)


def check_order(cfg: CfgNode) -> None:
    """Checks which order of the images, and how often each, is asked for: Detectron2's other orders depend on time."""
    check_one_of(cfg, "DATALOADER.SAMPLER_TRAIN", (ONCE, REPEATED))
    grouping, threshold = cfg.DATALOADER.ASPECT_RATIO_GROUPING, cfg.DATALOADER.REPEAT_THRESHOLD
    must = "be False, for the order of the images is fixed"
    require(not grouping, "DATALOADER.ASPECT_RATIO_GROUPING", grouping, must)
    if cfg.DATALOADER.SAMPLER_TRAIN == REPEATED:
        holds = is_number(threshold) and 0 < threshold <= 1
        must = f"be a share of the images above 0, such as 0.001, where DATALOADER.SAMPLER_TRAIN is {REPEATED}"
    else:
        holds, must = threshold == 0, f"be 0 where DATALOADER.SAMPLER_TRAIN isn't {REPEATED}"
    require(holds, "DATALOADER.REPEAT_THRESHOLD", threshold, must)


def check_names(key: str, names: Sequence[str]) -> None:
    """Checks that `names`, the value of `key` (DATASETS.TRAIN or DATASETS.TEST), isn't empty."""
    require(len(names) > 0, key, names, "name a registered data set, or one that DATASETS lists")


def check_format(image_format: str) -> None:
    """Checks INPUT.FORMAT."""
    formats = (*CHANNELS, BANDS)
    require(image_format in formats, "INPUT.FORMAT", image_format, f"be one of {', '.join(formats)}")


def check_channels(cfg: CfgNode) -> None:
    """Checks INPUT.FORMAT, and that MODEL.PIXEL_MEAN and PIXEL_STD have a number for each of its channels."""
    check_format(cfg.INPUT.FORMAT)
    if cfg.INPUT.FORMAT in CHANNELS:
        channels, mean = CHANNELS[cfg.INPUT.FORMAT], cfg.MODEL.PIXEL_MEAN
        must = f"have as many numbers as INPUT.FORMAT {cfg.INPUT.FORMAT} has channels, {channels}"
        require(are_numbers(mean, channels), "MODEL.PIXEL_MEAN", mean, must)
    check_pixels(cfg)
    check_decoding(cfg)


def check_decoding(cfg: CfgNode) -> None:
    """Checks INPUT.WHITE_LEVEL, INPUT.MAX_PIXELS and INPUT.ALL_PAGES."""
    white, pages = cfg.INPUT.WHITE_LEVEL, cfg.INPUT.ALL_PAGES
    holds = isinstance(white, int) and (white == 0 or 1 <= white <= MAX_WHITE)
    must = f"be a whole number of at most {MAX_WHITE}; 0 is found from the training images"
    require(holds, "INPUT.WHITE_LEVEL", white, must)
    check_at_least(cfg, "INPUT.MAX_PIXELS", 1)
    must = "be False for a detector, whose annotations are of one image a file"
    require(not (pages and is_detector(cfg)), "INPUT.ALL_PAGES", pages, must)
    must = f"be False where INPUT.FORMAT is {BANDS}, for which pages are bands"
    require(not (pages and cfg.INPUT.FORMAT == BANDS), "INPUT.ALL_PAGES", pages, must)


def check_pixels(cfg: CfgNode) -> None:
    """Checks MODEL.PIXEL_MEAN and PIXEL_STD; their length is the model's number of channels."""
    mean, deviation = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    require(are_numbers(mean) and len(mean) > 0, "MODEL.PIXEL_MEAN", mean, "have a number for each channel")
    holds = are_numbers(deviation, len(mean)) and min(deviation) > 0
    require(holds, "MODEL.PIXEL_STD", deviation, f"have as many numbers as MODEL.PIXEL_MEAN, {len(mean)}, all above 0")


def check_input(cfg: CfgNode, is_train: bool) -> None:
    """Checks how a detector's images are read and augmented, in training or in evaluation."""
    check_channels(cfg)
    must = f"be 0 where INPUT.FORMAT is {BANDS}, which Detectron2 can't draw"
    require(not cfg.VIS_PERIOD or cfg.INPUT.FORMAT != BANDS, "VIS_PERIOD", cfg.VIS_PERIOD, must)
    if not is_train:
        check_at_least(cfg, "INPUT.MIN_SIZE_TEST", 0, " pixels; 0 doesn't resize images")
        check_at_least(cfg, "INPUT.MAX_SIZE_TEST", 1, " pixel")
        check_test_time_augmentation(cfg)
        return
    check_shortest_edge(cfg)
    check_crop(cfg)
    check_jitter(cfg)
    check_one_of(cfg, "INPUT.RANDOM_FLIP", FLIPS)
    check_one_of(cfg, "INPUT.MASK_FORMAT", MASK_FORMATS)


def check_test_time_augmentation(cfg: CfgNode) -> None:
    """Checks TEST.AUG."""
    if not cfg.TEST.AUG.ENABLED:
        return
    boxes_and_masks = cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and not cfg.MODEL.KEYPOINT_ON
    must = "be False unless MODEL.META_ARCHITECTURE is GeneralizedRCNN, without keypoints"
    require(boxes_and_masks, "TEST.AUG.ENABLED", True, must)
    must = f"be False where INPUT.FORMAT is {BANDS}, which Detectron2's augmentation can't resize"
    require(cfg.INPUT.FORMAT != BANDS, "TEST.AUG.ENABLED", True, must)
    sizes = cfg.TEST.AUG.MIN_SIZES
    holds = are_numbers(sizes) and len(sizes) > 0 and min(sizes) >= 1
    require(holds, "TEST.AUG.MIN_SIZES", sizes, "have at least one number, each at least 1 pixel")
    check_at_least(cfg, "TEST.AUG.MAX_SIZE", 1, " pixel")


def check_jitter(cfg: CfgNode) -> None:
    """Checks INPUT.LSJ, and that no other resizing or cropping is asked for beside it."""
    if not cfg.INPUT.LSJ.ENABLED:
        return
    for name, default in BESIDE_JITTER.items():
        value = attrgetter(name)(cfg.INPUT)
        must = f"stay {default} beside large-scale jitter, which resizes and crops as INPUT.LSJ says: for Detectron2's "
        require(is_same(value, default), f"INPUT.{name}", value, f"{must}augmentation set INPUT.LSJ.ENABLED False")
    check_at_least(cfg, "INPUT.LSJ.IMAGE_SIZE", 1, " pixel")
    low, high = cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE
    holds = is_number(high) and 0 < high <= MAX_SCALE
    require(holds, "INPUT.LSJ.MAX_SCALE", high, f"be above 0 and at most {MAX_SCALE}")
    holds = is_number(low) and 0 < low <= high
    require(holds, "INPUT.LSJ.MIN_SCALE", low, f"be above 0 and at most INPUT.LSJ.MAX_SCALE, {high}")


def check_shortest_edge(cfg: CfgNode) -> None:
    """Checks INPUT.MIN_SIZE_TRAIN and INPUT.MAX_SIZE_TRAIN."""
    check_at_least(cfg, "INPUT.MAX_SIZE_TRAIN", 1, " pixel")
    check_one_of(cfg, "INPUT.MIN_SIZE_TRAIN_SAMPLING", ("choice", "range"))
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    holds = are_numbers(sizes) and len(sizes) > 0 and min(sizes) >= 1
    require(holds, "INPUT.MIN_SIZE_TRAIN", sizes, "have at least one number, each at least 1 pixel")
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range":
        must = "be the smallest and the largest size where INPUT.MIN_SIZE_TRAIN_SAMPLING is range"
        require(len(sizes) == 2 and sizes[0] <= sizes[1], "INPUT.MIN_SIZE_TRAIN", sizes, must)


def check_crop(cfg: CfgNode) -> None:
    """Checks INPUT.CROP."""
    check_one_of(cfg, "INPUT.CROP.TYPE", CROPS)
    kind, size = cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE
    if kind.startswith("relative"):
        holds = are_numbers(size, 2) and all(0 < side <= 1 for side in size)
        what = "shares of the image, above 0 and at most 1,"
    else:
        holds = are_numbers(size, 2) and all(isinstance(side, int) and side > 0 for side in size)
        what = "whole numbers of pixels above 0"
        if kind == "absolute_range":
            holds, what = holds and size[0] <= size[1], f"{what}, the first at most the second,"
    require(holds, "INPUT.CROP.SIZE", size, f"be two {what} where INPUT.CROP.TYPE is {kind}")


def check_pretraining_input(cfg: CfgNode) -> None:
    """Checks how images are read and augmented in pretraining."""
    check_channels(cfg)
    check_size("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE)
    scale = cfg.INPUT.PRETRAIN_CROP_SCALE
    holds = are_numbers(scale, 2) and 0 < scale[0] <= scale[1] <= 1
    must = "be the smallest and the largest share of the image, above 0 and at most 1"
    require(holds, "INPUT.PRETRAIN_CROP_SCALE", scale, must)
    check_one_of(cfg, "INPUT.RANDOM_FLIP", FLIPS)


# TEST


def check_evaluation(cfg: CfgNode) -> None:
    """Checks when, and in which precision, a detector is evaluated during training."""
    for key in ("TEST.EVAL_PERIOD", "TEST.EVAL_EPOCHS", "TEST.PATIENCE"):
        check_at_least(cfg, key, 0, ", and 0 is never")
    evaluated = (cfg.TEST.EVAL_PERIOD or cfg.TEST.EVAL_EPOCHS) and cfg.DATASETS.TEST
    must = "be 0 where there are no evaluations during training, for which TEST.EVAL_EPOCHS and DATASETS.TEST are set"
    require(not cfg.TEST.PATIENCE or evaluated, "TEST.PATIENCE", cfg.TEST.PATIENCE, must)
    expected = cfg.TEST.EXPECTED_RESULTS
    require(not expected or cfg.DATASETS.TEST, "TEST.EXPECTED_RESULTS", expected, "be empty without DATASETS.TEST")
    check_name(cfg.TEST.PRECISION, "TEST.PRECISION", (TRAINED, *DTYPES))
    require_gpu(cfg.TEST.PRECISION, cfg.MODEL.DEVICE, "TEST.PRECISION")


# MODEL


def check_architecture(cfg: CfgNode) -> None:
    """Checks that the parts of a detector which are chosen by name go together, and are for boxes and masks."""
    for key, reasons in IMPOSSIBLE.items():
        for name, must in reasons.items():
            require(attrgetter(key)(cfg) != name, key, name, must)
    heads, agnostic = cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG
    must = "be True where MODEL.ROI_HEADS.NAME is CascadeROIHeads"
    require(heads != "CascadeROIHeads" or agnostic, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", agnostic, must)
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
        for key in ("MODEL.MASK_ON", "MODEL.KEYPOINT_ON"):
            value = attrgetter(key)(cfg)
            must = "be False where MODEL.META_ARCHITECTURE is RetinaNet, which finds boxes alone"
            require(not value, key, value, must)


def check_encoder(cfg: CfgNode) -> None:
    """Checks the keys that describe the encoder."""
    node = cfg.MODEL.CONVMAE
    check_one_of(cfg, "MODEL.CONVMAE.ARCH", list(PRESETS))
    preset = PRESETS[node.ARCH]
    for key in ("EMBED_DIMS", "DEPTHS", "MLP_RATIOS"):
        values = getattr(node, key) or preset[key.lower()]
        valid = are_numbers(values, 3) and min(values) > 0
        require(valid, f"MODEL.CONVMAE.{key}", list(values), "be three positive numbers, one a stage")
    width, heads = (node.EMBED_DIMS or preset["embed_dims"])[2], node.NUM_HEADS or preset["num_heads"]
    if heads <= 0 or width % heads:
        raise InputError(
            f"MODEL.CONVMAE.NUM_HEADS is {heads}, which doesn't divide the width {width} of stage 3; "
            "choose a divisor, or change the third of MODEL.CONVMAE.EMBED_DIMS"
        )
    if width % 4:
        raise InputError(
            f"MODEL.CONVMAE.EMBED_DIMS ends in {width}; the sin-cos position embedding needs a multiple of 4"
        )
    check_pixels(cfg)
    kernel, rate = node.CONV_KERNEL_SIZE, node.DROP_PATH_RATE
    holds = is_number(kernel) and kernel > 0 and kernel % 2
    require(holds, "MODEL.CONVMAE.CONV_KERNEL_SIZE", kernel, "be odd and positive, such as 5")
    require(is_number(rate) and 0 <= rate < 1, "MODEL.CONVMAE.DROP_PATH_RATE", rate, "be at least 0 and below 1")
    check_size("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", node.PRETRAIN_IMAGE_SIZE)


def check_backbone(cfg: CfgNode) -> None:
    """Checks the keys that describe the detector's backbone, except its encoder."""
    node = cfg.MODEL.CONVMAE
    check_size("MODEL.CONVMAE.IMAGE_SIZE", node.IMAGE_SIZE)
    check_one_of(cfg, "MODEL.CONVMAE.RELATIVE_POSITION", RELATIVE_POSITIONS)
    valid = node.OUT_FEATURES and set(node.OUT_FEATURES) <= set(FEATURES)
    require(valid, "MODEL.CONVMAE.OUT_FEATURES", node.OUT_FEATURES, f"name some of {', '.join(FEATURES)}")
    padded = node.SQUARE_PAD
    require(padded >= 0 and padded % 32 == 0, "MODEL.CONVMAE.SQUARE_PAD", padded, "be 0 or a multiple of 32 pixels")
    tested = cfg.TEST.AUG.MAX_SIZE if cfg.TEST.AUG.ENABLED else cfg.INPUT.MAX_SIZE_TEST
    largest = max(tested, cfg.INPUT.LSJ.IMAGE_SIZE if cfg.INPUT.LSJ.ENABLED else 0)
    if 0 < padded < largest:
        raise InputError(
            f"MODEL.CONVMAE.SQUARE_PAD is {padded}, smaller than the images: it must be at least "
            f"{'TEST.AUG.MAX_SIZE' if cfg.TEST.AUG.ENABLED else 'INPUT.MAX_SIZE_TEST'} and INPUT.LSJ.IMAGE_SIZE, here "
            f"{largest}"
        )
    level = node.PAD_VALUE
    holds = is_number(level) and (level == -1 or 0 <= level <= 255)
    require(holds, "MODEL.CONVMAE.PAD_VALUE", level, "lie between 0 and 255, or be -1 for zeros after normalisation")
    require(node.FREEZE_STAGES in range(4), "MODEL.CONVMAE.FREEZE_STAGES", node.FREEZE_STAGES, "be 0, 1, 2 or 3")
    check_windows(cfg)


def check_windows(cfg: CfgNode) -> None:
    """Checks the schedule of windows in stage 3."""
    node = cfg.MODEL.CONVMAE
    depth = (node.DEPTHS or PRESETS[node.ARCH]["depths"])[2]
    outside = [index for index in node.GLOBAL_BLOCKS if not 0 <= index < depth]
    if outside:
        raise InputError(
            f"MODEL.CONVMAE.GLOBAL_BLOCKS names block {outside[0]}, but stage 3 has blocks 0 to {depth - 1}"
        )
    require(node.WINDOW_SIZE >= 1, "MODEL.CONVMAE.WINDOW_SIZE", node.WINDOW_SIZE, "be at least 1 token, such as 7")


def check_masked_autoencoder(cfg: CfgNode) -> None:
    """Checks masking and the decoder."""
    node = cfg.MODEL.MAE
    require(0 < node.MASK_RATIO < 1, "MODEL.MAE.MASK_RATIO", node.MASK_RATIO, "lie between 0 and 1, such as 0.75")
    check_one_of(cfg, "MODEL.MAE.MASKING", MASKINGS)
    if node.COMPLEMENTARY_MASKS and node.MASKING != "block":
        raise InputError("MODEL.MAE.COMPLEMENTARY_MASKS splits blocks; set MODEL.MAE.MASKING to block")
    if not node.MASKED_CONV and node.MASKING != "block":
        raise InputError("MODEL.MAE.MASKED_CONV False is an ablation of block masking; set MODEL.MAE.MASKING to block")
    dim, heads = node.DECODER_EMBED_DIM, node.DECODER_NUM_HEADS
    require(dim > 0 and dim % 4 == 0, "MODEL.MAE.DECODER_EMBED_DIM", dim, "be a positive multiple of 4")
    if heads <= 0 or dim % heads:
        raise InputError(f"MODEL.MAE.DECODER_NUM_HEADS is {heads}, which doesn't divide DECODER_EMBED_DIM {dim}")
    require(node.DECODER_DEPTH >= 0, "MODEL.MAE.DECODER_DEPTH", node.DECODER_DEPTH, "be at least 0 blocks")
    ratio = node.DECODER_MLP_RATIO
    require(ratio >= 0, "MODEL.MAE.DECODER_MLP_RATIO", ratio, "be above 0, or 0 for that of the encoder's stage 1")


def check_size(key: str, size: int) -> None:
    """Checks the side of a square image, the value of `key`: stage 3 cuts it into patches."""
    holds = is_number(size) and size > 0 and size % STRIDE == 0
    require(holds, key, size, f"be a positive multiple of {STRIDE} pixels")
