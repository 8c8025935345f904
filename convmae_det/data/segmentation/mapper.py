"""Converts an image and its mask to the input of a segmentor."""

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from torchvision.transforms.v2 import RandomPhotometricDistort

from ...config.checks.data import BANDS
from ...config.checks.segmentation import check_segmentation_input
from ..detection.jitter import Resize
from ..image import DEFAULT, Decoding, read_image
from .masks import check_size, check_values, read_mask

LONGEST = 4  # longer side of a resized training image, at most, relative to its shorter side as it was drawn


class ScaleJitter(T.Augmentation):
    """Resizes an image so that its shorter side is a crop's side times a random scale, unless the longer gets too long.

    The longer side is at most LONGEST times that.
    """

    def __init__(self, crop_size: int, min_scale: float, max_scale: float):
        super().__init__()
        self.crop_size, self.min_scale, self.max_scale = crop_size, min_scale, max_scale

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        side = max(1, round(self.crop_size * np.random.uniform(self.min_scale, self.max_scale)))
        return T.ResizeTransform(
            height, width, *T.ResizeShortestEdge.get_output_shape(height, width, side, LONGEST * side)
        )


class TrainingMapper:
    """A random crop of an image and its mask, at a random scale, perhaps flipped and in changed colours.

    All draws are from the generators that `SampleStream` seeds. ``TrainingMapper(cfg)`` builds it from a configuration.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: list[T.Augmentation],
        crop_size: int,
        distort: RandomPhotometricDistort | None,
        image_format: str,
        pixel_mean: list[float],
        classes: int,
        ignore_value: int,
        decoding: Decoding = DEFAULT,
    ):
        """Takes the steps.

        Args:
            augmentations: of image and mask, the last of which leave at most a square of `crop_size`
            crop_size: pixels: side of the square that results are padded to
            distort: changes colours; None: left out
            image_format: of `read_image`
            pixel_mean: of each channel, of 255, with which images are padded
            classes: their number
            ignore_value: in masks, of pixels without a class, with which masks are padded
            decoding: of `read_image`
        """
        self.augmentations, self.crop_size, self.distort = T.AugmentationList(augmentations), crop_size, distort
        self.image_format, self.decoding = image_format, decoding
        self.level = np.array([round(value) for value in pixel_mean], np.uint8)
        self.classes, self.ignore_value = classes, ignore_value

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        check_segmentation_input(cfg, is_train=True)
        node, ignore = cfg.INPUT.SEGMENTATION, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        size = node.CROP_SIZE
        _, *flip = build_augmentation(cfg, True)
        return {
            "augmentations": [
                Resize(ScaleJitter(size, node.MIN_SCALE, node.MAX_SCALE), cfg.INPUT.FORMAT == BANDS),
                T.RandomCrop_CategoryAreaConstraint("absolute", (size, size), node.MAX_CLASS_SHARE, ignore),
                *flip,
            ],
            "crop_size": size,
            "distort": RandomPhotometricDistort() if node.PHOTOMETRIC else None,
            "image_format": cfg.INPUT.FORMAT,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": ignore,
            "decoding": Decoding.from_config(cfg),
        }

    def __call__(self, image: dict) -> dict:
        """Reads an image of `SegmentedImages` and its mask.

        Returns:
            The same with "image", (C, S, S) uint8, and "sem_seg", (S, S) int64, S being the crop's side

        Raises:
            InputError: the image or mask can't be used; names it.
        """
        pixels = read_image(image["file_name"], self.image_format, self.decoding)
        mask = read_mask(image["sem_seg_file_name"], self.decoding)
        check_size(image["sem_seg_file_name"], mask, image["file_name"], pixels.shape[:2])
        check_values(image["sem_seg_file_name"], mask, self.classes, self.ignore_value)
        augmented = T.AugInput(pixels, sem_seg=mask)
        self.augmentations(augmented)
        height, width = augmented.sem_seg.shape
        labels = np.full((self.crop_size, self.crop_size), self.ignore_value, np.int64)
        labels[:height, :width] = augmented.sem_seg
        canvas = np.empty((self.crop_size, self.crop_size, pixels.shape[2]), np.uint8)
        canvas[:] = self.level
        crop = torch.from_numpy(augmented.image.copy()).permute(2, 0, 1)
        canvas[:height, :width] = self._distort(crop).permute(1, 2, 0)
        tensor = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1)))
        return image | {"image": tensor, "sem_seg": torch.from_numpy(labels)}

    def _distort(self, crop: torch.Tensor) -> torch.Tensor:
        if self.distort is None:
            return crop
        return self.distort(crop.flip(0)).flip(0) if self.image_format == "BGR" else self.distort(crop)


class EvaluationMapper:
    """An image resized as INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST say, as ``EvaluationMapper(cfg)`` builds it."""

    @configurable
    def __init__(self, *, augmentations: list[T.Augmentation], image_format: str, decoding: Decoding = DEFAULT):
        self.augmentations, self.image_format = T.AugmentationList(augmentations), image_format
        self.decoding = decoding

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        check_segmentation_input(cfg, is_train=False)
        (resize,) = build_augmentation(cfg, False)
        return {
            "augmentations": [Resize(resize, cfg.INPUT.FORMAT == BANDS)],
            "image_format": cfg.INPUT.FORMAT,
            "decoding": Decoding.from_config(cfg),
        }

    def __call__(self, image: dict) -> dict:
        """Reads an image.

        Returns:
            The same with "image", (C, h, w) uint8, and "height" and "width", those of the file

        Raises:
            InputError: it can't be read; names it.
        """
        return image | self.convert(read_image(image["file_name"], self.image_format, self.decoding))

    def convert(self, pixels: np.ndarray) -> dict:
        """Resizes an image (H, W, C) that is read; returns "image", "height" and "width" of :meth:`__call__`."""
        resized = T.AugInput(pixels)
        self.augmentations(resized)
        tensor = torch.from_numpy(np.array(resized.image.transpose(2, 0, 1), order="C"))
        return {"image": tensor, "height": pixels.shape[0], "width": pixels.shape[1]}
