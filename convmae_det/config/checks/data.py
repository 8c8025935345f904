"""Rules about INPUT, DATASETS, DATALOADER and TEST.AUG: which images are read, and what is made of them."""

import re
from collections.abc import Sequence
from operator import attrgetter

from yacs.config import CfgNode

from ..architectures import is_autoencoder
from .model import check_pixels, check_pretraining_size, check_size
from .rules import are_numbers, check_at_least, check_one_of, is_number, is_same, require
from .tiles import check_tiles

CHANNELS = {"RGB": 3, "BGR": 3, "L": 1, "RGBA": 4}  # of each INPUT.FORMAT,
BANDS = "bands"  # except this one, whose images have as many channels as MODEL.PIXEL_MEAN has entries
MAX_PIXELS = 178_956_970  # of an image unless INPUT.MAX_PIXELS is set: Pillow's own limit
MAX_WHITE = 2**24 - 1
FLIPS = ("none", "horizontal", "vertical")
MASK_FORMATS = ("polygon", "bitmask")
CROPS = ("relative", "relative_range", "absolute", "absolute_range")
MAX_SCALE = 100  # of large-scale jitter, relative to the crop: limits the size of the image before cropping
# Keys of INPUT that large-scale jitter replaces, at their defaults.
BESIDE_JITTER = {
    "CROP.ENABLED": False,
    "MIN_SIZE_TRAIN": (800,),
    "MIN_SIZE_TRAIN_SAMPLING": "choice",
    "MAX_SIZE_TRAIN": 1333,
}
ONCE, REPEATED = "TrainingSampler", "RepeatFactorTrainingSampler"


def check_names(key: str, names: Sequence[str]) -> None:
    """Checks that `names`, the value of `key` (DATASETS.TRAIN or DATASETS.TEST), isn't empty."""
    require(len(names) > 0, key, names, "name a registered data set, or one that DATASETS lists")


def check_loader(cfg: CfgNode) -> None:
    """Checks DATALOADER.NUM_WORKERS."""
    check_at_least(cfg, "DATALOADER.NUM_WORKERS", -1, "; -1, or auto, is the cores for each process on the machine")


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


def check_share(cfg: CfgNode) -> None:
    """Checks DATASETS.TRAIN_SHARE, and that what chooses the images is the same whenever a run goes on."""
    share = cfg.DATASETS.TRAIN_SHARE
    require(is_number(share) and 0 < share <= 1, "DATASETS.TRAIN_SHARE", share, "be above 0 and at most 1")
    if share < 1:
        why = f"where DATASETS.TRAIN_SHARE is {share:g}"
        require(cfg.SEED >= 0, "SEED", cfg.SEED, f"be at least 0 {why}, since it chooses the images")
        sampler = cfg.DATALOADER.SAMPLER_TRAIN
        require(sampler == ONCE, "DATALOADER.SAMPLER_TRAIN", sampler, f"be {ONCE} {why}")


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
    check_shown_bands(cfg)
    check_decoding(cfg)


def check_labelled(cfg: CfgNode) -> None:
    """Checks that no data set of which labels are wanted lies in shards."""
    names = {entry[0] for entry in cfg.DATASETS.SHARDS if isinstance(entry, (list, tuple)) and len(entry) == 2}
    for key in ("TRAIN", "TEST"):
        chosen = cfg.DATASETS[key]
        in_shards = any(name in names for name in chosen)
        must = "name no shards beside pretraining: labels in them (.cls, .json) aren't read, so unpack them"
        require(not in_shards, f"DATASETS.{key}", tuple(chosen), must)


def check_shown_bands(cfg: CfgNode) -> None:
    """Checks INPUT.SHOWN_BANDS."""
    shown, bands = cfg.INPUT.SHOWN_BANDS, len(cfg.MODEL.PIXEL_MEAN)
    must = f"be empty unless INPUT.FORMAT is {BANDS}"
    require(len(shown) == 0 or cfg.INPUT.FORMAT == BANDS, "INPUT.SHOWN_BANDS", shown, must)
    holds = len(shown) in (0, 1, 3) and all(type(band) is int and 0 <= band < bands for band in shown)
    must = f"be one band or three, counted from 0, of the {bands} that MODEL.PIXEL_MEAN has entries for"
    require(holds, "INPUT.SHOWN_BANDS", shown, must)


def check_decoding(cfg: CfgNode) -> None:
    """Checks INPUT.WHITE_LEVEL, INPUT.MAX_PIXELS and INPUT.ALL_PAGES."""
    white, pages = cfg.INPUT.WHITE_LEVEL, cfg.INPUT.ALL_PAGES
    holds = isinstance(white, int) and 0 <= white <= MAX_WHITE
    must = f"be a whole number of at most {MAX_WHITE}; 0 is found from the training images"
    require(holds, "INPUT.WHITE_LEVEL", white, must)
    check_at_least(cfg, "INPUT.MAX_PIXELS", 1)
    must = "be False beside pretraining, since labels are of one image a file"
    require(not pages or is_autoencoder(cfg), "INPUT.ALL_PAGES", pages, must)
    must = f"be False where INPUT.FORMAT is {BANDS}, for which pages are bands"
    require(not (pages and cfg.INPUT.FORMAT == BANDS), "INPUT.ALL_PAGES", pages, must)


def check_input(cfg: CfgNode, is_train: bool) -> None:
    """Checks how a detector's images are read and augmented, in training or in evaluation."""
    check_labelled(cfg)
    check_channels(cfg)
    check_tiles(cfg, is_train)
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


def check_shortest_edge(cfg: CfgNode) -> None:
    """Checks INPUT.MIN_SIZE_TRAIN and INPUT.MAX_SIZE_TRAIN."""
    check_at_least(cfg, "INPUT.MAX_SIZE_TRAIN", 1, " pixel")
    check_one_of(cfg, "INPUT.MIN_SIZE_TRAIN_SAMPLING", ("choice", "range"))
    _check_sizes(cfg, "INPUT.MIN_SIZE_TRAIN")
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range":
        sizes = cfg.INPUT.MIN_SIZE_TRAIN
        must = "be the smallest and the largest size where INPUT.MIN_SIZE_TRAIN_SAMPLING is range"
        require(len(sizes) == 2 and sizes[0] <= sizes[1], "INPUT.MIN_SIZE_TRAIN", sizes, must)


def _check_sizes(cfg: CfgNode, key: str) -> None:
    sizes = attrgetter(key)(cfg)
    holds = are_numbers(sizes) and len(sizes) > 0 and min(sizes) >= 1
    require(holds, key, sizes, "have at least one number, each at least 1 pixel")


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


def check_test_time_augmentation(cfg: CfgNode) -> None:
    """Checks TEST.AUG."""
    if not cfg.TEST.AUG.ENABLED:
        return
    boxes_and_masks = cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and not cfg.MODEL.KEYPOINT_ON
    must = "be False unless MODEL.META_ARCHITECTURE is GeneralizedRCNN, without keypoints"
    require(boxes_and_masks, "TEST.AUG.ENABLED", True, must)
    must = f"be False where INPUT.FORMAT is {BANDS}, which Detectron2's augmentation can't resize"
    require(cfg.INPUT.FORMAT != BANDS, "TEST.AUG.ENABLED", True, must)
    _check_sizes(cfg, "TEST.AUG.MIN_SIZES")
    check_at_least(cfg, "TEST.AUG.MAX_SIZE", 1, " pixel")


def check_pretraining_input(cfg: CfgNode) -> None:
    """Checks how images are read and augmented in pretraining."""
    check_channels(cfg)
    check_pretraining_size(cfg)
    _check_crop_scale(cfg, "INPUT.PRETRAIN_CROP_SCALE")
    check_one_of(cfg, "INPUT.RANDOM_FLIP", FLIPS)


def _check_crop_scale(cfg: CfgNode, key: str) -> None:
    scale = attrgetter(key)(cfg)
    holds = are_numbers(scale, 2) and 0 < scale[0] <= scale[1] <= 1
    require(holds, key, scale, "be the smallest and the largest share of the image, above 0 and at most 1")


def check_classification_input(cfg: CfgNode) -> None:
    """Checks how images of classes are read, augmented and evaluated."""
    check_labelled(cfg)
    check_channels(cfg)
    check_size("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE)
    _check_crop_scale(cfg, "INPUT.CLASSIFICATION.CROP_SCALE")
    check_one_of(cfg, "INPUT.RANDOM_FLIP", FLIPS)
    node = cfg.INPUT.CLASSIFICATION
    holds = not node.RAND_AUGMENT or re.fullmatch(r"rand(-(m|n|mstd|mmax|inc|p)\d+(\.\d+)?)*", node.RAND_AUGMENT)
    must = "be in timm's words, such as rand-m9-mstd0.5-inc1, or empty"
    require(holds, "INPUT.CLASSIFICATION.RAND_AUGMENT", node.RAND_AUGMENT, must)
    must = f"be empty where INPUT.FORMAT is {cfg.INPUT.FORMAT}, for it works on colours"
    holds = not node.RAND_AUGMENT or CHANNELS.get(cfg.INPUT.FORMAT) == 3
    require(holds, "INPUT.CLASSIFICATION.RAND_AUGMENT", node.RAND_AUGMENT, must)
    share = node.RANDOM_ERASING
    require(is_number(share) and 0 <= share <= 1, "INPUT.CLASSIFICATION.RANDOM_ERASING", share, "lie between 0 and 1")
    for name in ("MIXUP", "CUTMIX"):
        check_at_least(cfg, f"INPUT.CLASSIFICATION.{name}", 0, "; 0 is none")
    holds = is_number(node.TEST_CROP) and 0 < node.TEST_CROP <= 1
    require(holds, "INPUT.CLASSIFICATION.TEST_CROP", node.TEST_CROP, "be above 0 and at most 1, such as 0.875")
