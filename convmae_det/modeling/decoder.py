"""The multi-scale decoder of pretraining, its target and its loss (paper, section 3.3; MAE, arXiv 2111.06377).

N images of H×W pixels, L = h·w stage-3 tokens, K of them visible, C1 C2 C3 widths of the encoder, D width of the
decoder; L patches of P = 16·16·channels values in the order row, column, channel.
"""

from collections.abc import Sequence

import torch
from torch import nn

from ..ops.layers import accelerate
from ..ops.maps import Places, mark_occupied, put_blocks, take_blocks
from .blocks import TransformerBlock
from .encoder import STRIDE
from .patch_embed import fold, unfold
from .positions import PositionEmbedding


class MultiScaleFusion(nn.Module):
    """E3 + Σ head(E_i) over the earlier stages; each head is a convolution with kernel = stride = the stride ratio."""

    def __init__(self, dims: Sequence[int], ratios: Sequence[int]):
        """`dims` [C1, C2, C3]; `ratios`: the stride of stage 3 relative to each earlier stage, [4, 2]."""
        super().__init__()
        *earlier, dim = dims
        self.ratios = tuple(ratios)
        widths = (ratio**2 * width for width, ratio in zip(earlier, ratios, strict=True))
        self.heads = nn.ModuleList(nn.Linear(width, dim) for width in widths)
        accelerate(self)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """[E1, E2, E3] as the encoder gives them, visible blocks (N, K, s, s, C) or dense maps → the shape of E3."""
        *earlier, fused = features
        for head, feature, ratio in zip(self.heads, earlier, self.ratios, strict=True):
            fused = fused + head(fold(feature, ratio))
        return fused


class Decoder(nn.Module):
    """Visible latents and mask tokens → pixels of the hidden patches."""

    def __init__(
        self,
        *,
        in_dim: int,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        patch_values: int,
        grid: tuple[int, int],
    ):
        """`patch_values`: numbers predicted for a patch, 16·16·channels; `grid` (h, w): of the position embedding."""
        super().__init__()
        self.embed = nn.Linear(in_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.position_embedding = PositionEmbedding(dim, grid, learned=False)
        self.blocks = nn.ModuleList(TransformerBlock(dim, num_heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pred = nn.Linear(dim, patch_values)
        nn.init.normal_(self.mask_token, std=0.02)
        for layer in (self.embed, self.pred):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        accelerate(self)

    def forward(self, latent: torch.Tensor, visible: Places, predicted: Places) -> torch.Tensor:
        """Predicts patches.

        Args:
            latent: (N, K, C3)
            visible: where the latents belong
            predicted: which patches to predict, M of each image

        Returns:
            (N, M, patch_values)
        """
        embedded = put_blocks(self.embed(latent)[:, :, None, None], visible)
        shown = mark_occupied(visible).view(*embedded.shape[:3], 1)
        tokens = torch.where(shown, embedded, self.mask_token.to(embedded.dtype))
        tokens = tokens + self.position_embedding(visible.grid)
        for block in self.blocks:
            tokens = block(tokens)
        return self.pred(self.norm(take_blocks(tokens, predicted).flatten(1, 3)))


def patchify(images: torch.Tensor) -> torch.Tensor:
    """(N, channels, H, W) → (N, L, P)"""
    return fold(images.permute(0, 2, 3, 1), STRIDE).flatten(1, 2)


def unpatchify(patches: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(N, L, P) → (N, channels, H, W) for a grid (H/16, W/16)."""
    return unfold(patches.unflatten(1, tuple(grid)), STRIDE).permute(0, 3, 1, 2)


def compute_patch_statistics(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (…, 1) of each patch: unbiased variance plus 1e-6, as in MAE's code."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def build_target_patches(patches: torch.Tensor, normalise: bool) -> torch.Tensor:
    """What the decoder is to predict of `patches` (…, P): themselves, or normalised by their own statistics."""
    if not normalise:
        return patches
    mean, deviation = compute_patch_statistics(patches)
    return (patches - mean) / deviation


def compute_reconstruction_loss(
    prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared error over hidden patches, a float32 scalar: prediction, target (N, patches, P).

    `weight` of the same shape, 1 at pixels that count and 0 elsewhere; None: all count.
    """
    error = (prediction.float() - target.float()).square()
    return error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp(min=1)
