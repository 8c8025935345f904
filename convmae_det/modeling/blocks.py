"""The two kinds of blocks, and the MLP of both (paper, section 3.1; figure 2). Tokens are channels-last.

`apply_pointwise(x, norm, mlp)` is mlp(norm(x)).
"""

import torch
from timm.layers import DropPath
from torch import nn

from ..ops.attention import Bias
from ..ops.layers import apply_pointwise, cast_together
from .attention import Attention, Window
from .masked_convolution import Dense


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

    @cast_together
    def forward(self, x: torch.Tensor, layout: Dense) -> torch.Tensor:
        """Tokens (..., C) as `layout`, one of modeling/masked_convolution.py, arranges them → the same shape."""
        mixed = layout.convolve(self.convolve, apply_pointwise(x, self.norm1, self.pointwise1))
        x = x + self.drop_path(self.pointwise2(mixed))
        return x + self.drop_path(apply_pointwise(x, self.norm2, self.mlp))

    def convolve(self, dense: torch.Tensor) -> torch.Tensor:
        """(N, h, w, C) → (N, h, w, C). The permuted views are torch's channels_last format: nothing is copied."""
        return self.depthwise(dense.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_path: float = 0.0,
        window: Window | None = None,
        relative_grid: tuple[int, int] | None = None,
        norm_eps: float = 1e-6,
    ):
        """`window` None: global attention. `relative_grid`: see :class:`Attention`."""
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, relative_grid)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        for layer in (self.attn.qkv, self.attn.proj, self.mlp.fc1, self.mlp.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @cast_together
    def forward(self, x: torch.Tensor, bias: Bias = None) -> torch.Tensor:
        """Tokens (N, …, C) → the same shape; a window needs (N, h, w, C)."""
        x = x + self.drop_path(self.attend(self.norm1(x), bias))
        return x + self.drop_path(apply_pointwise(x, self.norm2, self.mlp))

    def attend(self, tokens: torch.Tensor, bias: Bias) -> torch.Tensor:
        """Attention among all tokens, or inside the windows."""
        n, h, w = *tokens.shape[:2], tokens.shape[-2]
        if self.window is None:
            return self.attn(tokens.flatten(1, -2), bias, (h, w)).view(tokens.shape)
        windows = self.attn(self.window.split(tokens), bias, (self.window.size, self.window.size))
        return self.window.join(windows, n, (h, w))


class Mlp(nn.Module):
    """Linear, GELU, linear on channels-last tokens."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, dim) → (…, dim)"""
        return apply_pointwise(tokens, self.fc1, self.act, self.fc2)
