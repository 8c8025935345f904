"""Attention of stage 3 and of the decoder: global, or inside plain or shifted windows (paper, sections 3.1, 3.4).

Tokens are channels-last: (N, h, w, C) on a grid, or (N, …, C) in any arrangement where attention is global. Which
tokens a block attends to is its own property, :class:`Window`; what a stage computes once for all its blocks of one
kind, the relative position bias and the mask of :func:`build_padding_mask`, is handed to the block as `bias`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..ops.attention import Bias, attend, attend_by_axes, needs_mask
from ..ops.maps import crop
from .positions import compute_decomposed_bias


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
        query, key, value = self.qkv(tokens).view(b, s, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        if self.rel_pos_h is not None and self.rel_pos_w is not None and grid is not None:
            terms = compute_decomposed_bias(query, self.rel_pos_h, self.rel_pos_w, grid)
            attended = attend_by_axes(query, key, value, *terms)
        else:
            attended = attend(query, key, value, bias)
        return self.proj(attended.transpose(1, 2).reshape(b, s, c))
