"""Convolution block of stages 1 and 2 (paper, section 3.1; figure 2).

The depthwise convolution is its only line that sees neighbours; everything else is pointwise.
"""

import torch
from timm.layers import DropPath
from torch import nn

from ..ops.depthwise import DepthwiseConv2d
from ..ops.linear import Linear
from ..ops.pointwise import pointwise
from .mlp import Mlp


class ConvBlock(nn.Module):
    """x + pointwise2(depthwise(pointwise1(norm1(x)))), then x + mlp(norm2(x)), on channels-last tokens.

    The linear layers keep torch's own initialisation, which is that of the 1×1 convolutions of the published code.
    """

    def __init__(self, dim: int, mlp_ratio: float, kernel_size: int = 5, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.pointwise1 = Linear(dim, dim)
        self.depthwise = DepthwiseConv2d(dim, kernel_size)
        self.pointwise2 = Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, tokens: torch.Tensor, layout) -> torch.Tensor:
        """tokens and result: as `layout` arranges them, (..., C); `layout` is one of modeling/masking.py."""
        mixed = layout.convolve(self._convolve, pointwise(tokens, self.norm1, self.pointwise1))
        tokens = tokens + self.drop_path(self.pointwise2(mixed))
        return tokens + self.drop_path(pointwise(tokens, self.norm2, self.mlp))

    def _convolve(self, dense: torch.Tensor) -> torch.Tensor:
        """(N, h, w, C) → (N, h, w, C). The permuted views are torch's channels_last format: nothing is copied."""
        return self.depthwise(dense.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
