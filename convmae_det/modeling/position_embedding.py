"""2-D sin-cos position embedding of stage 3 and of the decoder, and its resizing to other grids.

Grids are (h, w) in stage-3 tokens. Half of the channels encodes the column, half the row (Transformer, arXiv
1706.03762, section 3.5, extended to two axes as in MAE, arXiv 2111.06377, appendix A).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..ops.resizing import resize as resize_maps


def sincos(dim: int, grid: tuple[int, int]) -> torch.Tensor:
    """(1, h, w, dim) float32; channels: sin and cos of the column, then of the row. `dim` is a multiple of 4."""
    frequencies = 1 / 10000.0 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    rows, columns = (torch.arange(n, dtype=torch.float64)[:, None] * frequencies for n in grid)
    rows, columns = (torch.cat([angle.sin(), angle.cos()], dim=1) for angle in (rows, columns))
    h, w = grid
    table = torch.cat([columns[None].expand(h, w, -1), rows[:, None].expand(h, w, -1)], dim=-1)
    return table[None].float()


def resize(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(1, h, w, C) → (1, *grid, C), bicubically (align_corners False), as the published code does."""
    return resize_maps(table.permute(0, 3, 1, 2), grid, "bicubic").permute(0, 2, 3, 1)


class PositionEmbedding(nn.Module):
    """A table of one grid, sin-cos at first, resized to others; a parameter if `learned`, else fixed.

    A fixed table takes the grid of the state dict that is loaded: its values, not the configuration, are what the
    weights around it were trained with.
    """

    def __init__(self, dim: int, grid: tuple[int, int], learned: bool):
        super().__init__()
        if learned:
            self.table = nn.Parameter(sincos(dim, grid))
        else:
            self.register_buffer("table", sincos(dim, grid))

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        """(1, *grid, C)"""
        return resize(self.table, grid)

    def _load_from_state_dict(self, state_dict: Mapping[str, torch.Tensor], prefix: str, *args: Any) -> None:
        table = state_dict.get(prefix + "table")
        fixed = "table" in self._buffers
        if fixed and table is not None and table.ndim == 4 and table.shape[-1] == self.table.shape[-1]:
            self.register_buffer("table", self.table.new_empty(table.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
