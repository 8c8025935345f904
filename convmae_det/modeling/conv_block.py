"""Convolution block of stages 1 and 2 (paper, section 3.1; figure 2).

The depthwise convolution is its only line that sees neighbours; everything else is pointwise.
"""

import torch
from timm.layers import DropPath
from torch import nn

from ..ops.pointwise import pointwise
from .masking import Dense
from .mlp import Mlp


class ConvBlock(nn.Module):
    """x + pointwise2(depthwise(pointwise1(norm1(x)))), then x + mlp(norm2(x)), on channels-last tokens.

    The linear layers keep torch's own initialisation, which is that of the 1×1 convolutions of the published code.
    """

    def __init__(
        self, dim: int, mlp_ratio: float, kernel_size: int = 5, drop_path: float = 0.0, norm_eps: float = 1e-5
    ):
        """`kernel_size`: odd. `norm_eps`: 1e-5 in the first published code, 1e-6 in the second."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.pointwise1 = nn.Linear(dim, dim)
        self.depthwise = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.pointwise2 = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor, layout: Dense) -> torch.Tensor:
        """Tokens (..., C) as `layout`, one of modeling/masking.py, arranges them → the same shape."""
        mixed = layout.convolve(self.convolve, pointwise(x, self.norm1, self.pointwise1))
        x = x + self.drop_path(self.pointwise2(mixed))
        return x + self.drop_path(pointwise(x, self.norm2, self.mlp))

    def convolve(self, dense: torch.Tensor) -> torch.Tensor:
        """(N, h, w, C) → (N, h, w, C). The permuted views are torch's channels_last format: nothing is copied."""
        return self.depthwise(dense.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
