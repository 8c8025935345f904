"""Where the tokens of the encoder lie: everywhere, or only in the visible blocks (paper, section 3.2).

Block-wise masking draws the mask at stride 16 and hides the same 16×16 pixel blocks in all three stages. Every
operation of the encoder but the depthwise convolution is pointwise or stays inside one block, so hidden tokens never
influence visible ones, and the encoder runs on the visible blocks alone. A *layout* says how its tokens are arranged:

========================  ==================================================  ==============================
layout                    tokens of stages 1, 2, 3                            used for
========================  ==================================================  ==============================
Dense                     (N, h, w, C)                                        detection, features
VisibleBlocks             (N, K, s, s, C), s = 4, 2, 1                        pretraining
VisibleTokens             (N, h, w, C), (N, h, w, C), (N, K, 1, 1, C)         ablation: convolution not masked
ScatteredPatches          (N, h, w, C), hidden ones cut off                   ablation: random masking
========================  ==================================================  ==============================

N images, K visible blocks of an image, h × w the grid of stage 3, s tokens along the side of a block.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from ..errors import InputError
from ..ops.maps import Places, find_other_places, find_places, list_all_places, mark_occupied, put_blocks, take_blocks
from .patch_embed import fold

Convolution = Callable[[torch.Tensor], torch.Tensor]  # of dense maps (N, h, w, C)


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


class Dense:
    """Every token is visible and lies in a dense map."""

    def enter(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels (N, H, W, channels) → what stage 1 embeds."""
        return images

    def convolve(self, convolution: Convolution, tokens: torch.Tensor) -> torch.Tensor:
        """Runs `convolution`, dense → dense, over tokens of stage 1 or 2."""
        return convolution(tokens)

    def leave(self, tokens: torch.Tensor) -> torch.Tensor:
        """Output of stage 1 or 2 → what stage 3 and the decoder see of it."""
        return tokens

    def select(self, dense: torch.Tensor) -> torch.Tensor:
        """A dense stage-3 map (N, h, w, C), such as the position embedding → this layout's stage-3 tokens."""
        return dense


class VisibleBlocks(Dense):
    """Only the visible blocks exist; the depthwise convolution lays them out on the grid with zeros between them.

    Those zeros are the masked convolution of the paper: the convolution's input vanishes at hidden tokens.
    """

    def __init__(self, indices: torch.Tensor, grid: tuple[int, int]):
        """`indices` (N, K) of the visible blocks in raster order; `grid` (h, w) of stage 3."""
        self.places = find_places(indices, grid)

    def enter(self, images: torch.Tensor) -> torch.Tensor:
        return self.select(images)

    def convolve(self, convolution: Convolution, tokens: torch.Tensor) -> torch.Tensor:
        return self.select(convolution(self.place(tokens)))

    def select(self, dense: torch.Tensor) -> torch.Tensor:
        """(N, h·s, w·s, C) → (N, K, s, s, C). A dense map of one image serves all N."""
        return take_blocks(dense, self.places)

    def place(self, blocks: torch.Tensor) -> torch.Tensor:
        """(N, K, s, s, C) → (N, h·s, w·s, C), zero at hidden tokens."""
        return put_blocks(blocks, self.places)


class VisibleTokens(VisibleBlocks):
    """Ablation `MASKED_CONV: False`: stages 1 and 2 are dense and leak; hidden tokens are dropped before stage 3."""

    def enter(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def convolve(self, convolution: Convolution, tokens: torch.Tensor) -> torch.Tensor:
        return convolution(tokens)

    def leave(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.select(tokens)


class ScatteredPatches(Dense):
    """Ablation `MASKING: random`: 4×4 pixel patches are hidden one by one, so that stage 3 keeps all its tokens."""

    def __init__(self, visible: torch.Tensor):
        """`visible` (N, H/4, W/4), bool."""
        self.visible = visible

    def visible_at(self, height: int, width: int) -> torch.Tensor:
        """bool (N, height, width, 1): pixels of a visible patch; tokens of stage 2 with any visible part."""
        mask = self.visible
        scale = height / mask.shape[1]
        if scale >= 1:
            mask = mask.repeat_interleave(int(scale), 1).repeat_interleave(int(scale), 2)
        else:
            n, size = mask.shape[0], mask.shape[1] // height
            mask = mask.view(n, height, size, width, size).any(4).any(2)
        return mask[..., None]

    def enter(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.visible_at(*images.shape[1:3])

    def convolve(self, convolution: Convolution, tokens: torch.Tensor) -> torch.Tensor:
        return convolution(tokens * self.visible_at(*tokens.shape[1:3]))


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
    size = 4 * grid[0], 4 * grid[1]
    shown = mark_occupied(find_places(draw_visible(noise, mask_ratio), size)).unflatten(1, size)
    layout = ScatteredPatches(shown)
    hidden = ~layout.visible_at(16 * grid[0], 16 * grid[1]).expand(-1, -1, -1, channels)
    everywhere = list_all_places(len(noise), grid, noise.device)
    return Mask(layout, everywhere, everywhere, fold(hidden, 16).flatten(1, 2))
