"""Attention of stage 3 and of the decoder, global or in windows, and relative position biases (paper, 3.1 and 3.4).

Tokens are channels-last: (N, h, w, C) on a grid, or (N, …, C) in any arrangement where attention is global. Which
tokens a block attends to is its own property, :class:`Window`; what a stage computes once for all its blocks of one
kind, the relative position bias and the mask of :func:`build_padding_mask`, is handed to the block as `bias`. Grids are
(h, w) in tokens, L = h·w, raster order. Displacements are query minus key.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..ops.attention import Bias, attend, attend_by_axes, needs_mask, slide
from ..ops.maps import clip_at_zero, crop, resize


class Window(NamedTuple):
    """Attention inside windows of size × size tokens whose borders lie at shift + multiples of size."""

    size: int
    shift: int = 0

    def padding(self, grid: tuple[int, int]) -> tuple[int, int, int, int]:
        """Tokens (left, right, top, bottom) around `grid` that complete its outer windows."""
        before = -self.shift % self.size
        after = [-(before + n) % self.size for n in grid]
        return before, after[1], before, after[0]

    def split(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, h, w, C) → (N·windows, size·size, C), padded with zeros."""
        _, h, w, _ = tokens.shape
        tokens = F.pad(tokens, (0, 0, *self.padding((h, w))))
        n, h, w, c = tokens.shape
        windows = tokens.view(n, h // self.size, self.size, w // self.size, self.size, c).transpose(2, 3)
        return windows.reshape(-1, self.size**2, c)

    def join(self, windows: torch.Tensor, n: int, grid: tuple[int, int]) -> torch.Tensor:
        """The inverse of :meth:`split` for N maps of `grid`: (N·windows, size·size, C) → (N, h, w, C)."""
        left, right, top, bottom = self.padding(grid)
        h, w = grid[0] + top + bottom, grid[1] + left + right
        tokens = windows.view(n, h // self.size, w // self.size, self.size, self.size, windows.shape[-1])
        tokens = tokens.transpose(2, 3).reshape(n, h, w, windows.shape[-1])
        return crop(tokens, (left, right, top, bottom))


def build_padding_mask(
    window: Window, grid: tuple[int, int], device: torch.device | None = None
) -> torch.Tensor | None:
    """bool (windows, size², size²): which key each query may see; None where nothing is padded.

    Real tokens see real tokens; padding sees padding, so that no row of the softmax is empty.
    """
    if not needs_mask(window.padding(grid)):
        return None
    real = window.split(torch.ones(1, *grid, 1, device=device))[..., 0]
    return real[:, :, None] == real[:, None, :]


class Attention(nn.Module):
    """Multi-head self-attention on (B, S, C), fused."""

    def __init__(self, dim: int, num_heads: int, relative_grid: tuple[int, int] | None = None):
        """`relative_grid`: the grid of a decomposed relative position bias of the block's own; None: without."""
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = self.rel_pos_w = None
        if relative_grid is not None:
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * relative_grid[0] - 1, dim // num_heads))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * relative_grid[1] - 1, dim // num_heads))

    def forward(self, tokens: torch.Tensor, bias: Bias = None, grid: tuple[int, int] | None = None) -> torch.Tensor:
        """Attends among the S tokens of each of B sequences.

        Args:
            tokens: (B, S, C)
            bias: added to the logits, broadcastable to (B, heads, S, S); none beside a decomposed bias
            grid: (h, w) with S = h·w, which a decomposed bias alone needs

        Returns:
            (B, S, C)
        """
        b, s, c = tokens.shape
        parts = self.qkv(tokens).view(b, s, 3, self.num_heads, -1).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in parts)  # (B, heads, S, d)
        if self.rel_pos_h is not None and self.rel_pos_w is not None:
            if grid is None or bias is not None:
                raise ValueError("attention with a decomposed bias takes a grid, and no other bias")
            terms = compute_decomposed_bias(query, self.rel_pos_h, self.rel_pos_w, grid)
            attended = attend_by_axes(query, key, value, *terms)
        else:
            attended = attend(query, key, value, bias)
        return self.proj(attended.transpose(1, 2).reshape(b, s, c))


def resize_bias_table(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(heads, 2h₀−1, 2w₀−1) → (heads, 2h−1, 2w−1) for another grid.

    A smaller grid knows only small displacements: the table's centre, exactly. A larger one: bicubic interpolation.
    """
    size = (2 * grid[0] - 1, 2 * grid[1] - 1)
    rows, columns = (clip_at_zero(of_table - side) // 2 for of_table, side in zip(table.shape[1:], size, strict=True))
    table = crop(table[..., None], (columns, columns, rows, rows))[..., 0]
    return resize(table[None], size, "bicubic")[0]


class RelativePositionBias(nn.Module):
    """One table of a bias per head and displacement, zero at the start, of one block or shared by many."""

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
