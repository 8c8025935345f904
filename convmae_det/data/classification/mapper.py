"""From an image of a class to a sample: a random crop that is augmented, or the middle for evaluation."""

import random

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from PIL import Image
from timm.data.auto_augment import RandAugment, posterize, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torchvision.transforms.v2 import functional as transforms

from ...config.checks.data import check_classification_input
from ...errors import InputError
from ..image import DEFAULT, Decoding, read_image
from ..pretraining.mapper import PretrainingMapper

NOT_COUNTED = -1  # label of a test image that can't be read
TRANSLATION = 0.45  # RandAugment's largest shift, as a share of the side


class TrainingMapper:
    """A random crop of an image, resized and perhaps flipped, then RandAugment and random erasing as in timm.

    All draws are from the generators that `SampleStream` seeds. ``TrainingMapper(cfg)`` builds it from a configuration.
    """

    @configurable
    def __init__(
        self,
        *,
        crop: PretrainingMapper,
        rand_augment: RandAugment | None,
        erasing: RandomErasing | None,
        pixel_mean: list[float],
        pixel_std: list[float],
    ):
        """Takes the steps.

        Args:
            crop: reads the image
            rand_augment: of Pillow's RGB images; None: left out
            erasing: of normalised images; None: left out
            pixel_mean, pixel_std: of each channel, of 255
        """
        self.crop, self.rand_augment, self.erasing, self.decoding = crop, rand_augment, erasing, crop.decoding
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (pixel_mean, pixel_std))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        check_classification_input(cfg)
        node, mean = cfg.INPUT.CLASSIFICATION, cfg.MODEL.PIXEL_MEAN
        arguments = PretrainingMapper.from_config(cfg) | {"scale": node.CROP_SCALE}
        rgb = mean[::-1] if cfg.INPUT.FORMAT == "BGR" else mean
        return {
            "crop": PretrainingMapper(**arguments),
            "rand_augment": build_rand_augment(node.RAND_AUGMENT, rgb, arguments["size"]),
            "erasing": RandomErasing(node.RANDOM_ERASING, mode="pixel", device="cpu") if node.RANDOM_ERASING else None,
            "pixel_mean": mean,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Reads an image and augments it.

        Args:
            dataset_dict: an item of `LabelledImages`

        Returns:
            "image", (C, size, size) in 0–255, uint8 or, with random erasing, float32; "label"; "file_name"; and "draw",
            an int below 2³² from which `Mixing` draws

        Raises:
            InputError: see `read_image`.
        """
        image = self.crop(dataset_dict)["image"]
        if self.rand_augment:
            image = self._augment(image, self.rand_augment)
        if self.erasing:
            image = self.erasing((image - self.mean) / self.std) * self.std + self.mean
        name, label = dataset_dict["file_name"], dataset_dict["label"]
        return {"image": image, "label": label, "file_name": name, "draw": random.getrandbits(32)}

    def _augment(self, image: torch.Tensor, augment: RandAugment) -> torch.Tensor:
        is_bgr = self.crop.image_format == "BGR"
        rgb = image.flip(0) if is_bgr else image
        augmented = augment(Image.fromarray(rgb.permute(1, 2, 0).numpy()))
        rgb = torch.from_numpy(np.array(augmented)).permute(2, 0, 1).contiguous()
        return rgb.flip(0) if is_bgr else rgb


def build_rand_augment(words: str, mean: list[float], size: int) -> RandAugment | None:
    """Builds RandAugment as timm's transforms do; None where there are no words.

    Args:
        words: such as rand-m9-mstd0.5-inc1
        mean: RGB of what comes in from outside the image, of 255
        size: side of the images in pixels
    """
    if not words:
        return None
    options = {"translate_const": int(size * TRANSLATION), "img_mean": tuple(map(round, mean))}
    augment = rand_augment_transform(words, options | {"interpolation": Image.Resampling.BICUBIC})
    for operation in augment.ops:
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    return augment


def _posterize(image: Image.Image, bits: int, **options: object) -> Image.Image:
    """timm's; but what has no bits left is black, for which Pillow raises an error from version 13 on."""
    return posterize(image, bits, **options) if bits else Image.new(image.mode, image.size)


class EvaluationMapper:
    """The middle of an image, resized so that all images have one size.

    ``EvaluationMapper(cfg)`` builds it from a configuration.
    """

    @configurable
    def __init__(self, *, image_format: str, channels: int, size: int, crop: float, decoding: Decoding = DEFAULT):
        """Stores the values of the configuration.

        Args:
            image_format: of `read_image`
            channels: of its images
            size: side of the result in pixels
            crop: the same, as a share of the image's shorter side
            decoding: of `read_image`
        """
        self.image_format, self.channels, self.decoding = image_format, channels, decoding
        self.size, self.crop = size, crop

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        check_classification_input(cfg)
        return {
            "image_format": cfg.INPUT.FORMAT,
            "channels": len(cfg.MODEL.PIXEL_MEAN),
            "size": cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE,
            "crop": cfg.INPUT.CLASSIFICATION.TEST_CROP,
            "decoding": Decoding.from_config(cfg),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Reads an image.

        Args:
            dataset_dict: an item of `LabelledImages`

        Returns:
            "image", (C, size, size) uint8, "label", "file_name", and "skipped", empty; where the image can't be read,
            a black one with the label NOT_COUNTED, and (name, reason) in "skipped"
        """
        name, label, skipped = dataset_dict["file_name"], dataset_dict["label"], []
        try:
            image = self.transform(read_image(name, self.image_format, self.decoding))
        except InputError as error:
            image, label = torch.zeros(self.channels, self.size, self.size, dtype=torch.uint8), NOT_COUNTED
            skipped.append((name, str(error).removeprefix(f"{name} ")))
        return {"image": image, "label": label, "file_name": name, "skipped": skipped}

    def transform(self, pixels: np.ndarray) -> torch.Tensor:
        """Resizes and crops (H, W, C) uint8 → (C, size, size) uint8."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        side = int(self.size / self.crop)
        resized = transforms.resize(image, [side], transforms.InterpolationMode.BICUBIC, antialias=True)
        return transforms.center_crop(resized, [self.size, self.size])
