"""Describes what a file of weights contains."""

import math
import re
from pathlib import Path

import torch

from ..errors import shorten_list
from .class_names import read_class_names
from .conversion import CLASSIFIER
from .encoder_shape import EncoderShape, count_blocks
from .weights import Weights, read_weights

PIXELS = 16  # along the side of a stage-3 token
CLASS_SCORES = r"^(head|sem_seg_head)\.(\d\.|conv_seg\.)?weight$|box_predictor\.(\d\.)?cls_score\.weight$"


def describe_file(path: str | Path, key: str = "") -> dict[str, str]:
    """Describes a file of weights.

    Args:
        path: of the file
        key: chooses one of several encoders, as for :func:`..loading.load_weights`

    Returns:
        What is known of it, by name, for example "encoder" or "classes".

    Raises:
        InputError: the file contains no ConvMAE weights.
    """
    weights = read_weights(path, key)
    shape, tensors = weights.shape, weights.tensors
    facts = {
        "kind": weights.format.name,
        **({"under": weights.under} if weights.under else {}),
        "encoder": str(shape),
        "attention heads": str(shape.num_heads or "unknown"),
        "input channels": str(shape.in_channels),
        "depthwise convolution": f"{shape.kernel_size}×{shape.kernel_size}",
        "position embedding": describe_position(shape),
        "relative position": describe_bias(shape),
        "decoder": describe_decoder(tensors),
        "classes": count_classes(weights),
    }
    facts |= {key: str(weights.entries[key]) for key in ("epoch", "iteration") if key in weights.entries}
    facts["tensors"] = describe_size(tensors)
    return facts


def describe_position(shape: EncoderShape) -> str:
    if shape.position_grid is None:
        return "none"
    rows, columns = shape.position_grid
    return f"{rows}×{columns} tokens, for {rows * PIXELS}×{columns * PIXELS} pixels"


def describe_bias(shape: EncoderShape) -> str:
    if shape.relative_position == "none":
        return "none"
    if shape.relative_position == "blocks" and shape.window_size == shape.global_grid:
        return f"blocks: {shape.global_grid}×{shape.global_grid}"
    return f"{shape.relative_position}: windows of {shape.window_size}, global {shape.global_grid}×{shape.global_grid}"


def describe_decoder(tensors: dict[str, torch.Tensor]) -> str:
    if "decoder.embed.bias" not in tensors:
        return "none"
    blocks = count_blocks(tensors, "decoder.blocks.")
    return f"width {tensors['decoder.embed.bias'].shape[0]}, {blocks} blocks"


def count_classes(weights: Weights) -> str:
    rows = next((tensor.shape[0] for name, tensor in weights.tensors.items() if re.search(CLASS_SCORES, name)), 0)
    background = 0 if any(name.startswith(("head.", CLASSIFIER)) for name in weights.tensors) else 1
    names = shorten_list(read_class_names(weights.entries))
    return f"{rows - background}{f': {names}' if names else ''}" if rows else "none"


def describe_size(tensors: dict[str, torch.Tensor]) -> str:
    numbers = sum(tensor.numel() for tensor in tensors.values())
    mebibytes = math.ceil(sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / 2**20)
    kinds = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}))
    return f"{len(tensors)} with {numbers:,} numbers, {mebibytes:,} MiB, {kinds}"
