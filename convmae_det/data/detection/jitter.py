"""Augmentation for detection: large-scale jitter (Ghiasi et al., arXiv 2012.07177), built from Detectron2's classes."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from PIL import Image

from ...config.checks.data import BANDS, check_input


class Resize(T.Augmentation):
    """One of Detectron2's resizing augmentations, but every image keeps at least a pixel of width and height.

    With `by_band`, each channel is resized by itself: Pillow knows images of up to four, the last being opacity.
    """

    def __init__(self, resize: T.Augmentation, by_band: bool = False):
        super().__init__()
        self.resize, self.transform = resize, BandwiseResizeTransform if by_band else ResizeTransform

    def get_transform(self, image: np.ndarray) -> T.Transform:
        resize = self.resize.get_transform(image)
        if not isinstance(resize, T.ResizeTransform):  # INPUT.MIN_SIZE_TEST 0 doesn't resize
            return resize
        return self.transform(resize.h, resize.w, max(1, resize.new_h), max(1, resize.new_w), resize.interp)


class ResizeTransform(T.ResizeTransform):
    """Detectron2's resizing, also for masks of more than 8 bits."""

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Resizes a mask (H, W), taking the same pixels whatever its type."""
        if segmentation.dtype != np.int32:
            return super().apply_segmentation(segmentation)
        return np.asarray(Image.fromarray(segmentation).resize((self.new_w, self.new_h), Image.Resampling.NEAREST))


class BandwiseResizeTransform(ResizeTransform):
    """Detectron2's resizing, for any number of channels."""

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Resizes (H, W) or (H, W, C)."""
        if img.ndim == 2:
            return super().apply_image(img, interp)
        bands = [super(BandwiseResizeTransform, self).apply_image(band, interp) for band in np.moveaxis(img, 2, 0)]
        return np.stack(bands, axis=2)


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Builds the augmentations that a detection mapper applies to an image, in order.

    Training with INPUT.LSJ: resize so that the image fits a square of IMAGE_SIZE times a random scale, crop to at most
    IMAGE_SIZE, flip. What is smaller than the crop stays smaller: the model pads, with zeros after normalisation, and
    knows the true size. Training without it, and test time, use Detectron2's own augmentations. For test-time
    augmentation, which makes several images of one, the image stays as it is.

    Raises:
        InputError: a value out of range, by its key.
    """
    check_input(cfg, is_train)
    if cfg.TEST.AUG.ENABLED and not is_train:
        return []
    resize, *flip = build_augmentation(cfg, is_train)
    by_band = cfg.INPUT.FORMAT == BANDS
    if is_train and cfg.INPUT.LSJ.ENABLED:
        size = cfg.INPUT.LSJ.IMAGE_SIZE
        resize = T.ResizeScale(cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE, target_height=size, target_width=size)
        return [Resize(resize, by_band), T.FixedSizeCrop((size, size), pad=False), *flip]
    if is_train and cfg.INPUT.CROP.ENABLED:
        return [T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE), Resize(resize, by_band), *flip]
    return [Resize(resize, by_band), *flip]
