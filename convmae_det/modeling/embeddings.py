"""Patch embedding, which opens each stage, and the position embedding of stage 3 and decoder (paper, section 3.1).

A convolution whose stride equals its kernel sees each input once, so it is a linear layer on folded tokens. Folding
acts on the last three axes, (..., h, w, C), and so serves dense maps (N, h, w, C) and visible blocks (N, K, s, s, C).

Positions are 2-D sin-cos at first: half of the channels encodes the column, half the row (Transformer, arXiv
1706.03762, section 3.5, extended to two axes as in MAE, arXiv 2111.06377, appendix A). Grids are (h, w) in stage-3
tokens.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..ops.layers import cast_together
from ..ops.maps import clip_at_zero, crop, resize

PATCH_SIZES = (4, 2, 2)  # of the three stages, in pixels, then in tokens of the stage before


def fold(tokens: torch.Tensor, size: int) -> torch.Tensor:
    """(..., h, w, C) → (..., h/size, w/size, size·size·C); within a patch the order is row, column, channel."""
    *lead, h, w, c = tokens.shape
    patches = tokens.reshape(*lead, h // size, size, w // size, size, c).transpose(-4, -3)
    return patches.reshape(*lead, h // size, w // size, size * size * c)


def unfold(patches: torch.Tensor, size: int) -> torch.Tensor:
    """The inverse of :func:`fold`: (..., h, w, size·size·C) → (..., h·size, w·size, C)."""
    *lead, h, w, _ = patches.shape
    tokens = patches.reshape(*lead, h, w, size, size, -1).transpose(-4, -3)
    return tokens.reshape(*lead, h * size, w * size, tokens.shape[-1])


class PatchEmbed(nn.Module):
    """(..., h, w, `in_dim`) → (..., h/patch_size, w/patch_size, `dim`): fold, linear, LayerNorm, GELU.

    torch's own initialisation of the linear layer is that of the convolution in the published code.
    """

    def __init__(self, in_dim: int, dim: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Linear(patch_size**2 * in_dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.act = nn.GELU()

    @cast_together
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.proj(fold(tokens, self.patch_size))))


def build_sincos_table(dim: int, grid: tuple[int, int]) -> torch.Tensor:
    """(1, h, w, dim) float32; channels: sin and cos of the column, then of the row. `dim` is a multiple of 4."""
    frequencies = 1 / 10000.0 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    rows, columns = (torch.arange(n, dtype=torch.float64)[:, None] * frequencies for n in grid)
    rows, columns = (torch.cat([angle.sin(), angle.cos()], dim=1) for angle in (rows, columns))
    h, w = grid
    table = torch.cat([columns[None].expand(h, w, -1), rows[:, None].expand(h, w, -1)], dim=-1)
    return table[None].float()


def resize_embedding(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(1, h, w, C) → (1, *grid, C), bicubically (align_corners False), as the published code does."""
    return resize(table.permute(0, 3, 1, 2), grid, "bicubic").permute(0, 2, 3, 1)


class PositionEmbedding(nn.Module):
    """A table of one grid, sin-cos at first, resized to others; a parameter if `learned`, else fixed.

    A fixed table takes the grid of the state dict that is loaded: its values, not the configuration, are what the
    weights around it were trained with.
    """

    def __init__(self, dim: int, grid: tuple[int, int], learned: bool, crops: bool = False):
        """Starts from sin-cos.

        Args:
            dim: channels, a multiple of 4
            grid: (h, w) of the table
            learned: whether it is trained
            crops: a smaller map takes the table's upper left corner, as if it were padded to the table's grid; else the
                table is resized to it
        """
        super().__init__()
        self.crops = crops
        if learned:
            self.table = nn.Parameter(build_sincos_table(dim, grid))
        else:
            self.register_buffer("table", build_sincos_table(dim, grid))

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        """(1, *grid, C)"""
        if not self.crops:
            return resize_embedding(self.table, grid)
        rows, columns = (
            clip_at_zero(of_table - side) for of_table, side in zip(self.table.shape[1:3], grid, strict=True)
        )
        table = resize_embedding(self.table, (grid[0] + rows, grid[1] + columns))  # enlarged to what it lacks
        return crop(table, (0, columns, 0, rows))

    def _load_from_state_dict(self, state_dict: Mapping[str, torch.Tensor], prefix: str, *args: Any) -> None:
        table = state_dict.get(prefix + "table")
        fixed = "table" in self._buffers
        if fixed and table is not None and table.ndim == 4 and table.shape[-1] == self.table.shape[-1]:
            self.register_buffer("table", self.table.new_empty(table.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
