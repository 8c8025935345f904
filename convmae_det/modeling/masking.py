"""Which part of the images is hidden (paper, section 3.2).

Block-wise masking draws the mask at stride 16 and hides the same 16×16 pixel blocks in all three stages.

N images, L = h·w tokens on the grid of stage 3, K of them visible.
"""

from typing import NamedTuple

import torch

from ..config.presets import STRIDE
from ..errors import InputError
from ..ops.maps import Places, find_other_places, find_places, list_all_places, mark_occupied
from .embeddings import PATCH_SIZES, fold
from .masked_convolution import Dense, ScatteredPatches, VisibleBlocks, VisibleTokens


def draw_visible(noise: torch.Tensor, mask_ratio: float) -> torch.Tensor:
    """Indices (N, K) of the K = int(L·(1 − mask_ratio)) tokens with the lowest `noise` (N, L), in raster order."""
    count = int(noise.shape[1] * (1 - mask_ratio))
    if not 0 < count < noise.shape[1]:
        raise InputError(
            f"MODEL.MAE.MASK_RATIO {mask_ratio:g} leaves {count} of {noise.shape[1]} tokens visible; "
            "choose a ratio between 0 and 1 that hides some and leaves some"
        )
    return noise.argsort(dim=1)[:, :count].sort(dim=1).values


def draw_complementary(noise: torch.Tensor, mask_ratio: float) -> torch.Tensor:
    """Indices (N·G, K) of G = 1/(1 − mask_ratio) disjoint visible sets of each image, which together are all L tokens.

    Rows n·G … n·G+G−1 belong to image n. Complementary masks, FastConvMAE (github.com/Alpha-VL/FastConvMAE).
    """
    groups = round(1 / (1 - mask_ratio)) if mask_ratio < 1 else 0
    n, length = noise.shape
    if groups < 2 or abs(groups * (1 - mask_ratio) - 1) > 1e-6 or length % groups:
        raise InputError(
            f"MODEL.MAE.COMPLEMENTARY_MASKS splits the {length} tokens of an image into 1/(1 − MASK_RATIO) equal sets, "
            f"which MASK_RATIO {mask_ratio:g} doesn't allow; choose 0.5 or 0.75, or an image size that divides"
        )
    return noise.argsort(dim=1).reshape(n * groups, length // groups).sort(dim=1).values


class Mask(NamedTuple):
    """What is hidden of some images."""

    layout: Dense  # that the encoder runs on
    visible: Places  # of the stage-3 tokens that the encoder gives
    predicted: Places  # of the patches that the decoder predicts
    hidden_pixels: torch.Tensor | None = None  # bool (N, patches predicted, P), over which the loss goes; None: all


def build_block_mask(indices: torch.Tensor, grid: tuple[int, int], masked_conv: bool = True) -> Mask:
    """Hides all but the blocks with `indices` (N, K) of `grid` (h, w), which the decoder is to predict.

    `masked_conv` False: the ablation in which stages 1 and 2 see everything.
    """
    layout = VisibleBlocks(indices, grid) if masked_conv else VisibleTokens(indices, grid)
    return Mask(layout, layout.places, find_other_places(layout.places))


def build_random_mask(noise: torch.Tensor, mask_ratio: float, grid: tuple[int, int], channels: int) -> Mask:
    """Hides 4×4 pixel patches one by one, those with the highest `noise` (N, 16·h·w): an ablation.

    Every stage-3 token of `grid` (h, w) sees something, and every 16×16 patch is predicted, of which its hidden pixels
    alone count.
    """
    patches_per_token = STRIDE // PATCH_SIZES[0]
    size = (grid[0] * patches_per_token, grid[1] * patches_per_token)
    shown = mark_occupied(find_places(draw_visible(noise, mask_ratio), size)).unflatten(1, size)
    layout = ScatteredPatches(shown)
    hidden = ~layout.visible_at(grid[0] * STRIDE, grid[1] * STRIDE).expand(-1, -1, -1, channels)
    everywhere = list_all_places(len(noise), grid, noise.device)
    return Mask(layout, everywhere, everywhere, fold(hidden, STRIDE).flatten(1, 2))
