"""Augmentation for detection: large-scale jitter (Ghiasi et al., arXiv 2012.07177), built from Detectron2's classes."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation

from ...config.checks import check_input


class Resize(T.Augmentation):
    """One of Detectron2's resizing augmentations, but every image keeps at least a pixel of width and height."""

    def __init__(self, resize: T.Augmentation):
        super().__init__()
        self.resize = resize

    def get_transform(self, image: np.ndarray) -> T.Transform:
        resize = self.resize.get_transform(image)
        if not isinstance(resize, T.ResizeTransform):  # INPUT.MIN_SIZE_TEST 0 doesn't resize
            return resize
        return T.ResizeTransform(resize.h, resize.w, max(1, resize.new_h), max(1, resize.new_w), resize.interp)


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Builds the augmentations that a detection mapper applies to an image, in order.

    Training with INPUT.LSJ: resize so that the image fits a square of IMAGE_SIZE times a random scale, crop to at most
    IMAGE_SIZE, flip. What is smaller than the crop stays smaller: the model pads, with zeros after normalisation, and
    knows the true size. Training without it, and test time, use Detectron2's own augmentations.

    Raises:
        InputError: a value out of range, by its key.
    """
    check_input(cfg, is_train)
    resize, *flip = build_augmentation(cfg, is_train)
    if is_train and cfg.INPUT.LSJ.ENABLED:
        size = cfg.INPUT.LSJ.IMAGE_SIZE
        resize = T.ResizeScale(cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE, target_height=size, target_width=size)
        return [Resize(resize), T.FixedSizeCrop((size, size), pad=False), *flip]
    if is_train and cfg.INPUT.CROP.ENABLED:
        return [T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE), Resize(resize), *flip]
    return [Resize(resize), *flip]
