"""Relative position biases of the detector's attention: tables, lookup, resizing (paper, section 3.4).

Grids are (h, w) in stage-3 tokens, L = h·w, raster order. Displacements are query minus key.
"""

import torch
from torch import nn

from ..ops.attention import slide
from ..ops.resizing import crop, resize


def resize_table(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
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
        return resize_table(self.table, grid)


def decomposed_bias(
    query: torch.Tensor, rel_pos_h: torch.Tensor, rel_pos_w: torch.Tensor, grid: tuple[int, int]
) -> torch.Tensor:
    """Query-dependent bias split into a row and a column term (ViTDet, arXiv 2203.16527, from MViTv2).

    query (B, heads, L, d); tables (2h₀−1, d) and (2w₀−1, d), resized linearly to the grid → (B, heads, L, L).
    """
    h, w = grid
    query = query.unflatten(2, (h, w))
    rows = torch.einsum("bnhwd,hkd->bnhwk", query, _displacements(rel_pos_h, h).to(query.dtype))
    columns = torch.einsum("bnhwd,wkd->bnhwk", query, _displacements(rel_pos_w, w).to(query.dtype))
    bias = rows[..., :, None] + columns[..., None, :]
    return bias.flatten(4, 5).flatten(2, 3)


def _displacements(table: torch.Tensor, size: int) -> torch.Tensor:
    """(2s₀−1, d) → (size, size, d): the entry for query − key."""
    table = resize(table.T[None], (2 * size - 1,), "linear")[0].T
    return slide(table, 0, size).transpose(1, 2)
