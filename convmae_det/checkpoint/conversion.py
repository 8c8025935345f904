"""Converts the published layout of ConvMAE's weights to ours and back, exactly: pure functions of state dicts.

In the published code patch embeddings, pointwise layers and multi-scale heads are convolutions whose stride equals the
kernel; ours are linear layers on folded tokens (modeling/embeddings.py), which hold the same numbers in the order row,
column, channel. C widths, L = h·w tokens of a grid.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from ..errors import InputError, shorten_error

INDEX = "relative_position_index"
BIAS_TABLE = "relative_position_bias_table"


class LayoutChange(NamedTuple):
    """The conversion of a tensor between layouts; both functions raise ValueError for a shape that they don't know."""

    to_ours: Callable[[torch.Tensor], torch.Tensor]
    to_official: Callable[[torch.Tensor], torch.Tensor]


def build_convolution_change(size: int) -> LayoutChange:
    """Builds the conversion of a weight, (O, I, size, size) ↔ (O, size·size·I); a bias is not changed."""

    def to_ours(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 1:
            return tensor
        if tensor.ndim != 4 or tuple(tensor.shape[2:]) != (size, size):
            raise ValueError(f"must be the weight of a {size}×{size} convolution")
        return tensor.permute(0, 2, 3, 1).reshape(tensor.shape[0], -1)

    def to_official(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 1:
            return tensor
        return tensor.reshape(tensor.shape[0], size, size, -1).permute(0, 3, 1, 2).contiguous()

    return LayoutChange(to_ours, to_official)


def compute_square_side(count: int) -> int:
    """Computes the side of a square with `count` entries.

    Raises:
        ValueError: there is none.
    """
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(f"has {count} entries, which fill no square")
    return side


def convert_list_to_grid(tensor: torch.Tensor) -> torch.Tensor:
    """Converts a position embedding (1, L, C) → (1, h, w, C)."""
    if tensor.ndim != 3 or tensor.shape[0] != 1:
        raise ValueError("must be a position embedding (1, tokens, channels)")
    side = compute_square_side(tensor.shape[1])
    return tensor.reshape(1, side, side, -1)


def convert_grid_to_list(tensor: torch.Tensor) -> torch.Tensor:
    """Converts a position embedding (1, h, w, C) → (1, L, C)."""
    if tensor.shape[1] != tensor.shape[2]:
        raise ValueError("is a table of a grid that is not square, which the published layout can't express")
    return tensor.flatten(1, 2)


def convert_list_to_bias(tensor: torch.Tensor) -> torch.Tensor:
    """Converts a relative position bias ((2h−1)(2w−1), heads) → (heads, 2h−1, 2w−1)."""
    if tensor.ndim != 2:
        raise ValueError("must be a table (displacements, heads)")
    side = compute_square_side(tensor.shape[0])
    if side % 2 == 0:
        raise ValueError(f"has {side} displacements a side, which are an odd number in any grid")
    return tensor.T.reshape(-1, side, side)


SAME = LayoutChange(lambda tensor: tensor, lambda tensor: tensor)
GRID = LayoutChange(convert_list_to_grid, convert_grid_to_list)
BIAS = LayoutChange(convert_list_to_bias, lambda tensor: tensor.flatten(1).T.contiguous())
TOKEN = LayoutChange(lambda tensor: tensor.flatten(), lambda tensor: tensor[None, None])

# Every name, with or without .weight or .bias; @ is a stage, # a block, * any rest. The first row that matches is used.
NAMES = (
    # published                ours                                      change
    ("patch_embed1.proj", "encoder.stage1.patch_embed.proj", build_convolution_change(4)),
    ("patch_embed2.proj", "encoder.stage2.patch_embed.proj", build_convolution_change(2)),
    ("patch_embed3.proj", "encoder.stage3.patch_embed.proj", build_convolution_change(2)),
    ("patch_embed@.norm", "encoder.stage@.patch_embed.norm", SAME),
    ("patch_embed4", "encoder.stage3.linear", SAME),
    ("pos_embed", "encoder.stage3.position_embedding.table", GRID),
    (f"blocks3.#.attn.{BIAS_TABLE}", "encoder.stage3.block_biases.#.table", BIAS),
    ("blocks3.#.*", "encoder.stage3.blocks.#.*", SAME),
    ("blocks@.#.norm1", "encoder.stage@.blocks.#.norm1", SAME),
    ("blocks@.#.conv1", "encoder.stage@.blocks.#.pointwise1", build_convolution_change(1)),
    ("blocks@.#.attn", "encoder.stage@.blocks.#.depthwise", SAME),
    ("blocks@.#.conv2", "encoder.stage@.blocks.#.pointwise2", build_convolution_change(1)),
    ("blocks@.#.norm2", "encoder.stage@.blocks.#.norm2", SAME),
    ("blocks@.#.mlp.fc1", "encoder.stage@.blocks.#.mlp.fc1", build_convolution_change(1)),
    ("blocks@.#.mlp.fc2", "encoder.stage@.blocks.#.mlp.fc2", build_convolution_change(1)),
    (f"windowed_rel_pos_bias.{BIAS_TABLE}", "encoder.stage3.local_bias.table", BIAS),
    (f"global_rel_pos_bias.{BIAS_TABLE}", "encoder.stage3.global_bias.table", BIAS),
    ("norm", "encoder.norm", SAME),
    ("stage1_output_decode", "fusion.heads.0", build_convolution_change(4)),
    ("stage2_output_decode", "fusion.heads.1", build_convolution_change(2)),
    ("decoder_embed", "decoder.embed", SAME),
    ("mask_token", "decoder.mask_token", TOKEN),
    ("decoder_pos_embed", "decoder.position_embedding.table", GRID),
    ("decoder_blocks.#.*", "decoder.blocks.#.*", SAME),
    ("decoder_norm", "decoder.norm", SAME),
    ("decoder_pred", "decoder.pred", SAME),
    ("fpn.*", "e4.*", SAME),
)
# The same for names that the encoder's prefix isn't part of; ours are those of a UPerNet, which has CLASSIFIER.
CLASSIFIER = "sem_seg_head.conv_seg.weight"
HEADS = (
    ("auxiliary_head.*", "sem_seg_head.auxiliary_head.*", SAME),
    ("decode_head.*", "sem_seg_head.*", SAME),
)
# A published segmentor scales what the branches of a block add; here the last layer of a branch does so by itself.
SCALED = {"gamma_1": "attn.proj", "gamma_2": "mlp.fc2"}
SCALE = re.compile(rf"(blocks3\.\d+\.)({'|'.join(SCALED)})")
WILDCARDS = {"@": r"([123])", "#": r"(\d+)", "*": r"(.+?)"}


def to_ours(tensors: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Converts the published layout to ours.

    Names that are not ConvMAE's (FPN, heads of detectors) are not changed. The index buffers of bias tables, which
    follow from the tables, are dropped; scales of branches become part of the layers that they follow.

    Args:
        tensors: by name
        prefix: what the names of the encoder begin with ("", "backbone.bottom_up.", …); "encoder." follows it in ours

    Raises:
        InputError: the shape of a tensor is none that its name can have.
    """
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(INDEX)}
    return _rename(fold_scales(kept, prefix), prefix, _TO_OURS, _HEADS_TO_OURS)


def fold_scales(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Multiplies SCALED layers of the published layout by their scales, (C,), which are dropped.

    Products of half precision are float32: rounded again they would compute something else than the file.

    Raises:
        InputError: a scale is not of its layer; or some layers have one, and others don't.
    """
    folded = dict(tensors)
    scales = [f"{block}{scale}" for block in _list_blocks(tensors, prefix) for scale in SCALED]
    missing = [name for name in scales if name not in tensors]
    if 0 < len(missing) < len(scales):
        raise InputError(f"{missing[0]} is missing, which other blocks have: fetch the file again, or name another")
    for name in tensors:
        found = SCALE.fullmatch(name.removeprefix(prefix))
        if not found or not name.startswith(prefix):
            continue
        scale, layer = folded.pop(name), f"{prefix}{found[1]}{SCALED[found[2]]}"
        for part in (f"{layer}.weight", f"{layer}.bias"):
            if part in folded and (scale.ndim != 1 or folded[part].shape[:1] != scale.shape):
                raise InputError(f"{name}, {tuple(scale.shape)}, doesn't fit {part}: name a checkpoint of ConvMAE")
            if part in folded:
                factors = scale.to(torch.promote_types(scale.dtype, torch.float32))
                folded[part] = folded[part] * factors.view(-1, *[1] * (folded[part].ndim - 1))
    return folded


def _list_blocks(names: Mapping[str, torch.Tensor], prefix: str) -> list[str]:
    """Lists what the names of each block of stage 3 begin with, in the published layout."""
    found = re.finditer(rf"^{re.escape(prefix)}blocks3\.\d+\.", "\n".join(names), re.MULTILINE)
    return list(dict.fromkeys(match[0] for match in found))


def to_official(tensors: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Converts our layout to the published one, the exact inverse of :func:`to_ours`.

    Index buffers are computed; scales, which a published segmentor has, are ones.

    Raises:
        InputError: a tensor of the encoder that the published layout doesn't have.
    """
    renamed = _rename(tensors, prefix, _TO_OFFICIAL, _HEADS_TO_OFFICIAL if CLASSIFIER in tensors else [])
    unknown = [name for name in renamed if name.startswith(f"{prefix}encoder.")]
    if unknown:
        raise InputError(f"{unknown[0]} has no place in the published layout: name a checkpoint of ConvMAE")
    for name in [name for name in renamed if name.endswith(BIAS_TABLE)]:
        size = (math.isqrt(renamed[name].shape[0]) + 1) // 2
        renamed[name.replace(BIAS_TABLE, INDEX)] = build_relative_position_index(size)
        if name.endswith(f".attn.{BIAS_TABLE}"):  # of a block of a segmentor
            block = name.removesuffix(f"attn.{BIAS_TABLE}")
            renamed |= {block + scale: torch.ones_like(renamed[f"{block}norm1.weight"]) for scale in SCALED}
    return renamed


def build_relative_position_index(size: int) -> torch.Tensor:
    """Builds the row of a published bias table for each query and key of a size × size window: (size², size²) int64."""
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij"))
    down, right = row[:, None] - row + size - 1, column[:, None] - column + size - 1
    return down * (2 * size - 1) + right


def _compile_pattern(name: str) -> re.Pattern:
    escaped = "".join(WILDCARDS.get(character, re.escape(character)) for character in name)
    return re.compile(rf"{escaped}(\.weight|\.bias|)")


def _list_rows(names: tuple, to: str) -> list[tuple[re.Pattern, str, Callable]]:
    if to == "ours":
        return [(_compile_pattern(official), ours, change.to_ours) for official, ours, change in names]
    return [(_compile_pattern(ours), official, change.to_official) for official, ours, change in names]


_TO_OURS, _HEADS_TO_OURS = _list_rows(NAMES, "ours"), _list_rows(HEADS, "ours")
_TO_OFFICIAL, _HEADS_TO_OFFICIAL = _list_rows(NAMES, "official"), _list_rows(HEADS, "official")


def _rename(tensors: Mapping[str, torch.Tensor], prefix: str, rows: list, heads: list) -> dict[str, torch.Tensor]:
    result = {}
    for name, tensor in tensors.items():
        start = prefix if name.startswith(prefix) else ""
        for pattern, template, change in rows if name.startswith(prefix) else heads:
            if found := pattern.fullmatch(name.removeprefix(start)):
                groups = iter(found.groups())
                new = re.sub(r"[@#*]", lambda _, groups=groups: next(groups), template) + found.groups()[-1]
                try:
                    result[start + new] = change(tensor)
                except (ValueError, RuntimeError) as error:  # RuntimeError: an empty tensor
                    raise InputError(
                        f"{name}, {tuple(tensor.shape)}, {shorten_error(error)}: name a checkpoint of ConvMAE"
                    ) from error
                break
        else:
            result[name] = tensor
    return result
