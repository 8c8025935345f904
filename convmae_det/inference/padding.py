"""How a detector's images are padded to a batch, where that is more than Detectron2 does."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.structures import ImageList
from torch import nn

from ..errors import InputError
from ..ops.layers import Form
from ..ops.maps import clip_at_zero


def pad_as_trained(model: nn.Module, training_square: int, level: float, always: bool = False) -> None:
    """Lets a detector of Detectron2's pad its images as the published code does.

    In training all batches have one size, so that a token's position doesn't depend on the other images of its batch.

    Args:
        model: whose `preprocess_image` and `backbone` are Detectron2's; others are left as they are
        training_square: pixels, a multiple of 32: in training images are padded to at least this square, unless the
            model has a semantic head, whose targets Detectron2 pads in its own way
        always: pad to that square in evaluation, too: where position tables are resized to the map, not cropped
        level: grey level of 0–255 to pad with before normalisation; below 0: zeros after it
    """
    if hasattr(model, "preprocess_image") and hasattr(model, "backbone"):
        square = 0 if hasattr(model, "sem_seg_head") else training_square
        pad_batch = functools.partial(_pad_batch, square=square, always=always, level=level)
        vars(model)["preprocess_image"] = Form(pad_batch, model)


def _pad_batch(
    model: Any, batched_inputs: list[dict[str, torch.Tensor]], *, square: int, always: bool, level: float
) -> ImageList:
    """Normalises and pads a batch. Raises InputError for an image larger than MODEL.CONVMAE.SQUARE_PAD."""
    if not torch.jit.is_tracing():
        _check_sizes(batched_inputs, getattr(model.backbone, "padding_constraints", {}).get("square_size", 0))
    images = type(model).preprocess_image(model, batched_inputs)
    if model.training or always:
        below, right = (clip_at_zero(square - side) for side in images.tensor.shape[-2:])
        images.tensor = F.pad(images.tensor, (0, right, 0, below))
    if level >= 0:
        fill = (level - model.pixel_mean) / model.pixel_std
        sizes = zip(images.tensor, images.image_sizes, strict=True)
        images.tensor = torch.stack([_fill(image, height, width, fill) for image, (height, width) in sizes])
    return images


def _check_sizes(batched_inputs: list[dict[str, torch.Tensor]], square: int) -> None:
    """Detectron2 would cut off what exceeds the square."""
    for inputs in batched_inputs if square else ():
        (height, width), name = inputs["image"].shape[-2:], inputs.get("file_name", "an image")
        if max(height, width) > square:
            raise InputError(
                f"{name} of {width}×{height} pixels is larger than the square of {square} that images are padded to: "
                "raise MODEL.CONVMAE.SQUARE_PAD, or resize the image"
            )


def _fill(image: torch.Tensor, height: int, width: int, fill: torch.Tensor) -> torch.Tensor:
    """(C, H, W) with `fill` (C, 1, 1) below `height` and on the right of `width`."""
    below = torch.arange(image.shape[1], device=image.device)[:, None] >= height
    right = torch.arange(image.shape[2], device=image.device) >= width
    return torch.where(below | right, fill, image)
