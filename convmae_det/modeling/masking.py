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

import torch

from ..errors import InputError


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


def visible_from_indices(indices: torch.Tensor, length: int) -> torch.Tensor:
    """Indices (N, K) → bool (N, length), True where visible."""
    visible = torch.zeros(indices.shape[0], length, dtype=torch.bool, device=indices.device)
    return visible.scatter_(1, indices, 1)


class Dense:
    """Every token is visible and lies in a dense map."""

    def enter(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels (N, H, W, channels) → what stage 1 embeds."""
        return images

    def convolve(self, convolution, tokens: torch.Tensor) -> torch.Tensor:
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
        self.grid = grid
        self.image = torch.arange(indices.shape[0], device=indices.device)[:, None]
        self.row, self.column = indices // grid[1], indices % grid[1]

    def enter(self, images: torch.Tensor) -> torch.Tensor:
        return self.select(images)

    def convolve(self, convolution, tokens: torch.Tensor) -> torch.Tensor:
        return self.select(convolution(self.place(tokens)))

    def select(self, dense: torch.Tensor) -> torch.Tensor:
        """(N, h·s, w·s, C) → (N, K, s, s, C). A dense map of one image serves all N."""
        if torch.jit.is_tracing():  # to count operations; a trace can't hold functions with their own backward
            return self._select(dense)
        return _Select.apply(dense, self)

    def place(self, blocks: torch.Tensor) -> torch.Tensor:
        """(N, K, s, s, C) → (N, h·s, w·s, C), zero at hidden tokens."""
        return self._place(blocks) if torch.jit.is_tracing() else _Place.apply(blocks, self)

    def _blocks_of(self, dense: torch.Tensor) -> torch.Tensor:
        """A view (N, h, w, s, s, C) of a dense map."""
        n, height, width, c = dense.shape
        h, w = self.grid
        return dense.view(n, h, height // h, w, width // w, c).transpose(2, 3)

    def _select(self, dense: torch.Tensor) -> torch.Tensor:
        image = self.image if dense.shape[0] > 1 else 0
        return self._blocks_of(dense.contiguous())[image, self.row, self.column]

    def _place(self, blocks: torch.Tensor) -> torch.Tensor:
        (n, _, s, _, c), (h, w) = blocks.shape, self.grid
        dense = blocks.new_zeros(n, h * s, w * s, c)
        self._blocks_of(dense)[self.image, self.row, self.column] = blocks
        return dense


class VisibleTokens(VisibleBlocks):
    """Ablation `MASKED_CONV: False`: stages 1 and 2 are dense and leak; hidden tokens are dropped before stage 3."""

    def enter(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def convolve(self, convolution, tokens: torch.Tensor) -> torch.Tensor:
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

    def convolve(self, convolution, tokens: torch.Tensor) -> torch.Tensor:
        return convolution(tokens * self.visible_at(*tokens.shape[1:3]))


class _Select(torch.autograd.Function):
    """Gather and scatter of distinct blocks are each other's adjoint; torch's own backward accumulates serially."""

    @staticmethod
    def forward(ctx, dense, layout):
        ctx.layout, ctx.shared = layout, dense.shape[0] == 1 < layout.row.shape[0]
        return layout._select(dense)

    @staticmethod
    def backward(ctx, grad):
        dense = ctx.layout._place(grad)
        return (dense.sum(0, keepdim=True) if ctx.shared else dense), None


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(ctx, blocks, layout):
        ctx.layout = layout
        return layout._place(blocks)

    @staticmethod
    def backward(ctx, grad):
        return ctx.layout._select(grad), None
