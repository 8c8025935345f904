"""Relative position biases of the detector's attention: tables, lookup, resizing (paper, section 3.4).

Grids are (h, w) in stage-3 tokens, L = h·w, raster order. Displacements are query minus key.

While a model is traced for export, h and w are tensors, and no branch depends on them: the trace serves all grids.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


def resize_table(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(heads, 2h₀−1, 2w₀−1) → (heads, 2h−1, 2w−1) for another grid.

    A smaller grid knows only small displacements: the table's centre, exactly. A larger one: bicubic interpolation.
    """
    for axis, size in ((1, 2 * grid[0] - 1), (2, 2 * grid[1] - 1)):
        surplus = table.shape[axis] - size
        margin = (surplus + abs(surplus)) // 4  # half of it, or 0 if it is negative
        table = table.narrow(axis, margin, table.shape[axis] - 2 * margin)
    target = (2 * grid[0] - 1, 2 * grid[1] - 1)
    if not torch.jit.is_tracing() and tuple(table.shape[1:]) == target:
        return table
    return F.interpolate(table[None], size=target, mode="bicubic", align_corners=False)[0]


class RelativePositionBias(nn.Module):
    """One table of a bias per head and displacement, zero at the start, shared by many blocks."""

    def __init__(self, num_heads: int, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.zeros(num_heads, 2 * grid[0] - 1, 2 * grid[1] - 1))

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        """The bias (heads, L, L) of every query and key on `grid`."""
        return look_up(resize_table(self.table, grid), grid)


class TableBias(NamedTuple):
    """A bias that is looked up where it is used, by :func:`.table_attention.attend_by_table`."""

    table: torch.Tensor  # (heads, 2h−1, 2w−1)
    grid: tuple[int, int]


def look_up(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(heads, 2h−1, 2w−1) → (heads, L, L): the entry for each query and key."""
    h, w = grid
    return _slide(_slide(table, 1, h), 2, w).reshape(-1, h * w, h * w)


def decomposed_bias(query: torch.Tensor, rel_pos_h: torch.Tensor, rel_pos_w: torch.Tensor, grid) -> torch.Tensor:
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
    if torch.jit.is_tracing() or table.shape[0] != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode="linear")[0].T
    return _slide(table, 0, size).transpose(1, 2)


def _slide(table: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """(…, 2·size−1, …) → (…, size, …, size): `axis` becomes that of the queries, the last one is that of the keys.

    The displacement grows with the query and falls with the key, so a sliding window over the table, turned around, is
    the lookup: no index is stored. ONNX knows such windows of a constant size only; a trace looks up by index.
    """
    if not torch.jit.is_tracing():
        return table.unfold(axis, size, 1).flip(-1)
    tokens = torch.arange(size, device=table.device)
    index = tokens[:, None] - tokens + size - 1
    return table.index_select(axis, index.flatten()).unflatten(axis, (size, size)).movedim(axis + 1, -1)
