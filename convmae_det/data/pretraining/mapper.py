"""From an image to a random crop of it, or of another if it can't be read; from crops to a batch."""

import functools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch.utils.data import ConcatDataset

from ...config.building import list_sides
from ...config.checks.data import check_pretraining_input
from ...errors import InputError
from ..image import DEFAULT, Decoding, read_crop
from ..shards.members import ShardError

# Images tried for one sample. With half of a data set damaged, all of them fail once in four billion samples.
MAX_ATTEMPTS = 32

FLIPS = {"none": None, "horizontal": -1, "vertical": -2}  # axes
ASPECT_RATIOS = (3 / 4, 4 / 3)  # smallest and largest width / height of a crop
LOG_ASPECT_RATIOS = torch.tensor(ASPECT_RATIOS).log().tolist()


class PretrainingMapper:
    """A random crop of an image, resized to one size and perhaps flipped (the paper's augmentation, after MAE's).

    What the crop leaves out is not converted, and a JPEG is decoded at the resolution that the result needs.

    ``PretrainingMapper(cfg)`` builds it from a configuration.
    """

    @configurable
    def __init__(
        self,
        *,
        image_format: str,
        size: int | Sequence[int],
        scale: Sequence[float],
        flip: str,
        decoding: Decoding = DEFAULT,
    ):
        """Stores the values of the configuration.

        Args:
            image_format: of `read_image`
            size: side of the square in pixels, or height and width
            scale: smallest and largest area of the crop, as fractions of the image's
            flip: horizontal, vertical or none
            decoding: of `read_image`
        """
        self.decoding = decoding
        self.image_format, self.size, self.scale, self.axis = image_format, list_sides(size), scale, FLIPS[flip]

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        check_pretraining_input(cfg)
        return {
            "image_format": cfg.INPUT.FORMAT,
            "size": cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE,
            "scale": cfg.INPUT.PRETRAIN_CROP_SCALE,
            "flip": cfg.INPUT.RANDOM_FLIP,
            "decoding": Decoding.from_config(cfg),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Reads an image, crops, resizes and perhaps flips it.

        Args:
            dataset_dict: one image in Detectron2's format

        Returns:
            "image", (C, *size) uint8, "file_name", and "height" and "width" of the file's image in pixels

        Raises:
            InputError: see `read_image`.
        """
        name = dataset_dict["file_name"]
        choose = functools.partial(choose_crop, scale=self.scale, shape=self.size[1] / self.size[0])
        page = dataset_dict.get("page", 0)
        pixels, (height, width) = read_crop(name, self.image_format, choose, max(self.size), self.decoding, page)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        image = F.interpolate(image[None], self.size, mode="bicubic", antialias=True)[0]
        if self.axis is not None and torch.rand(1) < 0.5:
            image = image.flip(self.axis)
        return {"image": image, "file_name": name, "height": height, "width": width}


def choose_crop(height: int, width: int, scale: Sequence[float], shape: float = 1.0) -> tuple[int, int, int, int]:
    """Draws top, left, height and width of a random part of an image of this size.

    With the same draws, torchvision's RandomResizedCrop chooses the same part; its many small tensor operations take a
    twentieth of the time of a sample.

    Args:
        height: of the image, in pixels
        width: of the image, in pixels
        scale: smallest and largest area of the part, as fractions of the image's
        shape: width / height of what the part is resized to, around which that of the part is drawn
    """
    for _ in range(10):
        area = height * width * torch.empty(1).uniform_(*scale).item()
        aspect_ratio = torch.empty(1).uniform_(*LOG_ASPECT_RATIOS).exp().item() * shape
        part_width, part_height = round(math.sqrt(area * aspect_ratio)), round(math.sqrt(area / aspect_ratio))
        if 0 < part_width <= width and 0 < part_height <= height:
            top = int(torch.randint(height - part_height + 1, (1,)))
            left = int(torch.randint(width - part_width + 1, (1,)))
            return top, left, part_height, part_width
    low, high = (ratio * shape for ratio in ASPECT_RATIOS)  # the whole image, or the middle of one that is too long
    part_width = min(width, round(height * high))
    part_height = min(height, round(width / low))
    return (height - part_height) // 2, (width - part_width) // 2, part_height, part_width


class SkippingMapper:
    """A mapper that replaces an image that can't be read by another, drawn at random.

    It draws from `random` alone, so in a `SampleStream` the replacement is a function of seed and position, too.

    Args:
        mapper: makes a dict of an item, or raises InputError
        dataset: where replacements are drawn from
    """

    def __init__(self, mapper: Callable[[dict], dict], dataset: Sequence[dict] | ConcatDataset):
        self.mapper, self.dataset = mapper, dataset

    def __call__(self, item: dict) -> dict:
        """Returns the mapper's dict with "skipped", the list of the files that could not be read: (name, reason).

        Raises:
            ShardError: a shard is lost, and all images in it.
            InputError: none of MAX_ATTEMPTS images can be read.
        """
        skipped: list[tuple[str, str]] = []
        reason = None
        while len(skipped) < MAX_ATTEMPTS:
            try:
                return self.mapper(item) | {"skipped": skipped}
            except ShardError:
                raise
            except InputError as error:
                skipped.append((item["file_name"], str(error).removeprefix(f"{item['file_name']} ")))
                reason = error
            item = self.dataset[random.randrange(len(self.dataset))]
        raise InputError(f"None of {MAX_ATTEMPTS} images drawn can be read; the last: {reason}") from reason


def stack_images(samples: list[dict]) -> dict[str, Any]:
    """Makes a batch whose images are one tensor, which a worker hands over as one open file.

    Returns:
        "images", (N, C, H, W) uint8, "file_names", N of them, and "skipped", the (name, reason) of the files
        that could not be read
    """
    return {
        "images": torch.stack([sample["image"] for sample in samples]),
        "file_names": [sample["file_name"] for sample in samples],
        "skipped": [skipped for sample in samples for skipped in sample["skipped"]],
    }
