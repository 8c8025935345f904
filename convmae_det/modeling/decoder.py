"""Multi-scale fusion and the transformer decoder of pretraining (paper, section 3.3).

N images of H×W pixels, L = h·w stage-3 tokens, K of them visible, C1 C2 C3 widths of the encoder, D width of the
decoder; L patches of P = 16·16·channels values in the order row, column, channel.
"""

from collections.abc import Sequence

import torch
from torch import nn

from ..ops.layers import accelerate, match_stream
from ..ops.maps import Places, mark_occupied, put_blocks, take_blocks
from .blocks import TransformerBlock
from .embeddings import PositionEmbedding, fold


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
        tokens = tokens + match_stream(self.position_embedding(visible.grid), tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return self.pred(self.norm(take_blocks(tokens, predicted).flatten(1, 3)))
