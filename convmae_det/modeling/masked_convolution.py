"""The masked convolution, and where the encoder's tokens lie: everywhere or in visible blocks (paper, section 3.2).

Every operation of the encoder but the depthwise convolution is pointwise or stays inside one 16×16 pixel block, so
hidden tokens never influence visible ones, and the encoder runs on the visible blocks alone. A *layout* says how its
tokens are arranged, and runs the convolution on them:

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

import torch

from ..ops.layers import apply_placed
from ..ops.maps import find_places, put_blocks, take_blocks

Convolution = Callable[[torch.Tensor], torch.Tensor]  # of dense maps (N, h, w, C)


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
        return self.select(apply_placed(convolution, self.place, tokens))

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
