"""Infers the shape of an encoder from its tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..config.presets import PRESETS


@dataclass(frozen=True)
class EncoderShape:
    """What tensors reveal about an encoder; 0 or None for what they don't."""

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    mlp_ratios: tuple[float, ...]
    in_channels: int
    kernel_size: int  # of the depthwise convolutions
    num_heads: int
    position_grid: tuple[int, int] | None
    window_size: int  # of the shared or decomposed relative position bias
    global_grid: int
    relative_position: str  # shared, blocks, decomposed or none

    @property
    def preset(self) -> str | None:
        """The name in `MODEL.CONVMAE.ARCH`, None for custom widths."""
        for name, preset in PRESETS.items():
            same = all(preset[key] == getattr(self, key) for key in ("embed_dims", "depths", "mlp_ratios"))
            if same and self.num_heads in (0, preset["num_heads"]):
                return name
        return None

    def __str__(self) -> str:
        dims, depths, ratios = (
            " ".join(f"{value:g}" for value in values) for values in (self.embed_dims, self.depths, self.mlp_ratios)
        )
        return f"{self.preset or 'custom'} (widths {dims}, depths {depths}, MLP ratios {ratios})"

    def list_settings(self) -> dict[str, object]:
        """Lists the keys of `MODEL.CONVMAE` that describe this shape, with their values."""
        settings: dict[str, object] = {}
        if self.preset:
            settings["ARCH"] = self.preset
        else:
            settings |= dict(EMBED_DIMS=list(self.embed_dims), DEPTHS=list(self.depths))
            settings |= dict(MLP_RATIOS=list(self.mlp_ratios))
            if self.num_heads:
                settings["NUM_HEADS"] = self.num_heads
        settings["CONV_KERNEL_SIZE"] = self.kernel_size
        return settings


def infer_encoder_shape(tensors: Mapping[str, torch.Tensor], prefix: str) -> EncoderShape:
    """Infers the shape of an encoder; missing tensors give zeros.

    Args:
        tensors: by our names
        prefix: what stands before stage1.… in these
    """

    def size(name: str, axis: int = 0) -> int:
        tensor = tensors.get(prefix + name)
        return tensor.shape[axis] if tensor is not None and tensor.ndim > axis else 0

    embed_dims = tuple(size(f"stage{stage}.patch_embed.proj.bias") for stage in (1, 2, 3))
    hidden = tuple(size(f"stage{stage}.blocks.0.mlp.fc1.bias") for stage in (1, 2, 3))
    grid = (size("stage3.position_embedding.table", 1), size("stage3.position_embedding.table", 2))
    shared = [size(f"stage3.{kind}_bias.table", 1) for kind in ("local", "global")]
    owned = list_table_lengths(tensors, prefix, r"block_biases\.\d+\.table", 1)
    decomposed = list_table_lengths(tensors, prefix, r"blocks\.\d+\.attn\.rel_pos_[hw]", 0)
    tables = owned or decomposed
    local, everywhere = shared if any(shared) else (min(tables, default=0), max(tables, default=0))
    head_width = size("stage3.blocks.0.attn.rel_pos_h", 1)
    heads = max(size(f"stage3.{table}.table") for table in ("local_bias", "global_bias", "block_biases.0"))
    return EncoderShape(
        embed_dims=embed_dims,
        depths=tuple(count_blocks(tensors, f"{prefix}stage{stage}.blocks.") for stage in (1, 2, 3)),
        mlp_ratios=tuple(compute_mlp_ratio(rows, width) for rows, width in zip(hidden, embed_dims, strict=True)),
        in_channels=size("stage1.patch_embed.proj.weight", 1) // 16,
        kernel_size=size("stage1.blocks.0.depthwise.weight", 2),
        num_heads=embed_dims[2] // head_width if head_width else heads,
        position_grid=grid if all(grid) else None,
        window_size=(local + 1) // 2,
        global_grid=(everywhere + 1) // 2,
        relative_position="shared" if any(shared) else "blocks" if owned else "decomposed" if decomposed else "none",
    )


def list_table_lengths(tensors: Mapping[str, torch.Tensor], prefix: str, table: str, axis: int) -> list[int]:
    """Lists the lengths along an axis of the tables in stage 3 whose names match a pattern."""
    pattern = re.compile(rf"{re.escape(prefix)}stage3\.{table}")
    return [tensor.shape[axis] for name, tensor in tensors.items() if pattern.fullmatch(name) and tensor.ndim > axis]


def count_blocks(names: Mapping[str, torch.Tensor], prefix: str) -> int:
    """Counts the blocks whose names begin with `prefix` and their number."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)})


def compute_mlp_ratio(rows: int, width: int) -> float:
    """Computes the MLP ratio, an int where it is whole."""
    value = rows / width if width else 0
    return int(value) if value == int(value) else value
