"""Augmentation for detection: large-scale jitter (Ghiasi et al., arXiv 2012.07177), out of Detectron2's parts."""

import math

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation

from ...errors import InputError

MAX_SCALE = 100  # times the crop; the image is as large before it is cropped


class ResizeScale(T.ResizeScale):
    """Detectron2's, except that the thinnest of images keeps a pixel of width at the smallest of scales."""

    def get_transform(self, image) -> T.ResizeTransform:
        resize = super().get_transform(image)
        return T.ResizeTransform(resize.h, resize.w, max(1, resize.new_h), max(1, resize.new_w), resize.interp)


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """The augmentations that a detection mapper applies to an image, in order.

    Training with INPUT.LSJ: resize so that the image fits a square of IMAGE_SIZE times a random scale, crop to at most
    IMAGE_SIZE, flip. What is smaller than the crop stays smaller: the model pads, with zeros after normalisation, and
    knows the true size. Training without it, and test time, are Detectron2's own.

    Raises:
        InputError: a value out of range, by its key.
    """
    _check(cfg, is_train)
    resize, *flip = build_augmentation(cfg, is_train)
    if is_train and cfg.INPUT.LSJ.ENABLED:
        size = cfg.INPUT.LSJ.IMAGE_SIZE
        resize = ResizeScale(cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE, target_height=size, target_width=size)
        return [resize, T.FixedSizeCrop((size, size), pad=False), *flip]
    if is_train and cfg.INPUT.CROP.ENABLED:
        return [T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE), resize, *flip]
    return [resize, *flip]


def _check(cfg: CfgNode, is_train: bool) -> None:
    if is_train:
        _check_shortest_edge(cfg)
        _check_crop(cfg)
        _require_choice("INPUT.RANDOM_FLIP", cfg.INPUT.RANDOM_FLIP, "none", "horizontal", "vertical")
        if cfg.INPUT.LSJ.ENABLED:
            _check_jitter(cfg)
    else:
        _require_positive("INPUT.MAX_SIZE_TEST", cfg.INPUT.MAX_SIZE_TEST)
        if cfg.INPUT.MIN_SIZE_TEST < 0:
            raise InputError(
                f"INPUT.MIN_SIZE_TEST is {cfg.INPUT.MIN_SIZE_TEST}, but must be positive, or 0 to leave images as they "
                "are."
            )


def _check_jitter(cfg: CfgNode) -> None:
    _require_positive("INPUT.LSJ.IMAGE_SIZE", cfg.INPUT.LSJ.IMAGE_SIZE)
    low, high = cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE
    if not 0 < low <= high <= MAX_SCALE:  # also if either is NaN
        raise InputError(
            f"INPUT.LSJ.MIN_SCALE is {low} and INPUT.LSJ.MAX_SCALE is {high}, but both must be positive, the first not "
            f"above the second, and that at most {MAX_SCALE}."
        )


def _check_shortest_edge(cfg: CfgNode) -> None:
    sizes, sampling = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    _require_positive("INPUT.MAX_SIZE_TRAIN", cfg.INPUT.MAX_SIZE_TRAIN)
    _require_positive("INPUT.MIN_SIZE_TRAIN", min(sizes, default=0))
    _require_choice("INPUT.MIN_SIZE_TRAIN_SAMPLING", sampling, "choice", "range")
    if sampling == "range" and (len(sizes) != 2 or sizes[0] > sizes[1]):
        raise InputError(
            f"INPUT.MIN_SIZE_TRAIN is {tuple(sizes)}, but must be the smallest and the largest size where "
            "INPUT.MIN_SIZE_TRAIN_SAMPLING is range."
        )


def _check_crop(cfg: CfgNode) -> None:
    kind, size = cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE
    _require_choice("INPUT.CROP.TYPE", kind, "relative", "relative_range", "absolute", "absolute_range")
    limit = 1 if kind.startswith("relative") else math.inf
    if len(size) != 2 or not all(0 < side <= limit for side in size):
        unit = "shares of the image from 0 to 1" if limit == 1 else "positive numbers of pixels"
        raise InputError(f"INPUT.CROP.SIZE is {list(size)}, but must be two {unit} where INPUT.CROP.TYPE is {kind}.")


def _require_positive(key: str, value: float) -> None:
    if value <= 0:
        raise InputError(f"{key} is {value}, but must be a positive number of pixels.")


def _require_choice(key: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise InputError(f"{key} is {value!r}, but must be one of {', '.join(choices)}.")
