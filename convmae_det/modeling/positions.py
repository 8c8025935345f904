"""Where a token lies: the position embedding, and relative position biases of attention (paper, sections 3.1, 3.4).

Grids are (h, w) in stage-3 tokens, L = h·w, raster order. Of the embedding, 2-D sin-cos at first, half of the channels
encodes the column, half the row (Transformer, arXiv 1706.03762, section 3.5, extended to two axes as in MAE, arXiv
2111.06377, appendix A). Displacements are query minus key.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..ops.attention import slide
from ..ops.maps import crop, resize


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

    def __init__(self, dim: int, grid: tuple[int, int], learned: bool, crop: bool = False):
        """Starts from sin-cos.

        Args:
            dim: channels, a multiple of 4
            grid: (h, w) of the table
            learned: whether it is trained
            crop: a smaller map takes the table's upper left corner, as if it were padded to the table's grid; else the
                table is resized to it
        """
        super().__init__()
        self.crop = crop
        if learned:
            self.table = nn.Parameter(build_sincos_table(dim, grid))
        else:
            self.register_buffer("table", build_sincos_table(dim, grid))

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        """(1, *grid, C)"""
        if not self.crop:
            return resize_embedding(self.table, grid)
        surplus = [self.table.shape[1] - grid[0], self.table.shape[2] - grid[1]]
        rows, columns = ((n + abs(n)) // 2 for n in surplus)  # 0 if it is negative: then the table is enlarged
        table = resize_embedding(self.table, (grid[0] + rows, grid[1] + columns))
        return crop(table, (0, columns, 0, rows))

    def _load_from_state_dict(self, state_dict: Mapping[str, torch.Tensor], prefix: str, *args: Any) -> None:
        table = state_dict.get(prefix + "table")
        fixed = "table" in self._buffers
        if fixed and table is not None and table.ndim == 4 and table.shape[-1] == self.table.shape[-1]:
            self.register_buffer("table", self.table.new_empty(table.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def resize_bias_table(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(heads, 2h₀−1, 2w₀−1) → (heads, 2h−1, 2w−1) for another grid.

    A smaller grid knows only small displacements: the table's centre, exactly. A larger one: bicubic interpolation.
    """
    size = (2 * grid[0] - 1, 2 * grid[1] - 1)
    surplus = [table.shape[1] - size[0], table.shape[2] - size[1]]
    rows, columns = ((n + abs(n)) // 4 for n in surplus)  # half of it, or 0 if it is negative
    table = crop(table[..., None], (columns, columns, rows, rows))[..., 0]
    return resize(table[None], size, "bicubic")[0]


class RelativePositionBias(nn.Module):
    """One table of a bias per head and displacement, zero at the start, shared by many blocks."""

    def __init__(self, num_heads: int, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.zeros(num_heads, 2 * grid[0] - 1, 2 * grid[1] - 1))

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        """The table (heads, 2h−1, 2w−1) of another grid."""
        return resize_bias_table(self.table, grid)


def compute_decomposed_bias(
    query: torch.Tensor, rel_pos_h: torch.Tensor, rel_pos_w: torch.Tensor, grid: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes a query-dependent bias, split into terms of rows and columns (ViTDet, arXiv 2203.16527, from MViTv2).

    Args:
        query: (B, heads, L, d)
        rel_pos_h, rel_pos_w: tables (2h₀−1, d) and (2w₀−1, d), which are resized linearly to the grid
        grid: (h, w)

    Returns:
        (B, heads, L, h) and (B, heads, L, w), for keys in each row and in each column, to be added
    """
    h, w = grid
    query = query.unflatten(2, (h, w))
    rows = torch.einsum("bnhwd,hkd->bnhwk", query, _displacements(rel_pos_h, h).to(query.dtype))
    columns = torch.einsum("bnhwd,wkd->bnhwk", query, _displacements(rel_pos_w, w).to(query.dtype))
    return rows.flatten(2, 3), columns.flatten(2, 3)


def _displacements(table: torch.Tensor, size: int) -> torch.Tensor:
    """(2s₀−1, d) → (size, size, d): the entry for query − key."""
    table = resize(table.T[None], (2 * size - 1,), "linear")[0].T
    return slide(table, 0, size).transpose(1, 2)
