"""Patch embedding: fold neighbouring tokens into channels, then a linear layer; opens each stage (paper, section 3.1).

A convolution whose stride equals its kernel sees each input once, so it is a linear layer on folded tokens. Folding
acts on the last three axes, (..., h, w, C), and so serves dense maps (N, h, w, C) and visible blocks (N, K, s, s, C).
"""

import torch
from torch import nn


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

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.proj(fold(tokens, self.patch_size))))
