"""Operations of a forward pass by formulas, of widths, depths and grids or of layers, for which no counter is asked.

A multiply-add is two. L = h·w tokens on the grid of stage 3, K of them visible, C1 C2 C3 widths, r MLP ratios.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence

from torch import nn


def encoder(
    *,
    embed_dims: Sequence[int],
    depths: Sequence[int],
    mlp_ratios: Sequence[float],
    grid: tuple[int, int],
    visible: int | None = None,
    convolved: int | None = None,
    windows: Sequence[tuple[int, int] | None] | None = None,
    decomposed: bool = False,
    in_channels: int = 3,
    kernel_size: int = 5,
    num_heads: int | None = None,
) -> Counter:
    """By stage, of one image. `visible`: tokens in the blocks of stage 3; `convolved`: those of the convolution stages
    and of patch embedding; None: all of the grid. `windows`: (size, shift) of each block of stage 3, None for global
    attention; `decomposed`: with ViTDet's relative positions. The number of heads makes no difference.
    """
    length = grid[0] * grid[1]
    visible, convolved = visible or length, convolved or visible or length
    stages, in_dim = Counter(), in_channels
    for stage, (size, side) in enumerate(((4, 4), (2, 2)), start=1):
        dim, depth, ratio = embed_dims[stage - 1], depths[stage - 1], mlp_ratios[stage - 1]
        tokens = convolved * side**2
        depthwise = 2 * length * side**2 * kernel_size**2 * dim  # hidden tokens are zeros in it
        block = 2 * tokens * (2 + 2 * ratio) * dim**2 + depthwise
        stages[f"stage {stage}"] = 2 * tokens * size**2 * in_dim * dim + depth * block
        in_dim = dim
    dim = embed_dims[2]
    stages["stage 3"] = 2 * convolved * (4 * in_dim + dim) * dim
    for window in windows or [None] * depths[2]:
        stages["stage 3"] += transformer_block(dim, mlp_ratios[2], visible, grid, window, decomposed)
    return stages


def transformer_block(dim, mlp_ratio, tokens: int, grid=None, window=None, decomposed=False) -> int:
    """`grid`, if `window` (size, shift) or `decomposed` is given; windows are filled with padding."""
    attending = seen = tokens
    sides = grid
    if window:
        size, shift = window
        attending = math.prod(-(-(n + -shift % size) // size) * size for n in grid)
        seen, sides = size**2, (size, size)
    biases = 2 * attending * sum(sides) * dim if decomposed else 0
    return 2 * attending * 4 * dim**2 + 4 * attending * seen * dim + biases + 2 * tokens * 2 * mlp_ratio * dim**2


def fusion(embed_dims: Sequence[int], tokens: int) -> int:
    c1, c2, c3 = embed_dims
    return 2 * tokens * (16 * c1 + 4 * c2) * c3


def decoder(in_dim: int, visible: int, length: int, predicted: int, mlp_ratio=4, dim=512, depth=8, values=768) -> int:
    ends = 2 * visible * in_dim * dim + 2 * predicted * dim * values
    return ends + depth * transformer_block(dim, mlp_ratio, length)


def autoencoder(grid: tuple[int, int], decoder_shape: dict | None = None, published=False, **shape) -> Counter:
    """By part, of one image of which a quarter is visible; `published`: what its plain form computes of the hidden."""
    length = grid[0] * grid[1]
    visible = length // 4
    widths, ratios = shape["embed_dims"], shape["mlp_ratios"]
    everywhere, predicted = (length, length) if published else (visible, length - visible)
    return encoder(grid=grid, visible=visible, convolved=everywhere, **shape) + Counter(
        {
            "fusion": fusion(widths, everywhere),
            "decoder": decoder(widths[2], visible, length, predicted, ratios[0], **decoder_shape or {}),
        }
    )


@contextlib.contextmanager
def layers(model: nn.Module) -> Iterator[Counter]:
    """Operations of the convolutions and linear layers that are called in it, by the names of these modules."""
    operations, handles = Counter(), []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):

            def add(layer, inputs, result, name=name):
                tensor = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else result
                operations[name] += 2 * tensor.numel() * layer.weight[0].numel()

            handles.append(module.register_forward_hook(add, prepend=True))
    yield operations
    for handle in handles:
        handle.remove()
