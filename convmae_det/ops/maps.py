"""Dense maps of tokens: blocks taken from them and put on them, with fast gradients; sizes changed.

N images, h × w the grid of blocks, K blocks listed of each image, s tokens along the side of a block.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from . import choice


class Places(NamedTuple):
    """Where on the grid the listed blocks lie; no two at the same place."""

    image: torch.Tensor  # (N, 1) int64
    row: torch.Tensor  # (N, K) int64
    column: torch.Tensor  # (N, K) int64
    grid: tuple[int, int]


def find_places(indices: torch.Tensor, grid: tuple[int, int]) -> Places:
    """The places of the blocks with `indices` (N, K), which count the grid (h, w) in raster order."""
    image = torch.arange(indices.shape[0], device=indices.device)[:, None]
    return Places(image, indices // grid[1], indices % grid[1], grid)


def mark_occupied(places: Places) -> torch.Tensor:
    """bool (N, h·w), True where a listed block lies."""
    taken = torch.zeros(len(places.image), *places.grid, dtype=torch.bool, device=places.image.device)
    taken[places.image, places.row, places.column] = True
    return taken.flatten(1)


def find_other_places(places: Places) -> Places:
    """Those of all blocks that are not listed, in raster order."""
    count = places.grid[0] * places.grid[1] - places.row.shape[1]
    # Sorted, not searched for: their number is known, so that a GPU needn't be asked for it.
    free_first = mark_occupied(places).byte().argsort(dim=1, stable=True)
    return find_places(free_first[:, :count], places.grid)


def list_all_places(n: int, grid: tuple[int, int], device: torch.device) -> Places:
    """Those of all blocks of N images, in raster order."""
    return find_places(torch.arange(grid[0] * grid[1], device=device).expand(n, -1), grid)


def take_blocks(dense: torch.Tensor, places: Places) -> torch.Tensor:
    """(N, h·s, w·s, C) → (N, K, s, s, C). A dense map of one image serves all N."""
    return _take(dense, places) if choice.is_transformed() else _Take.apply(dense, places)


def put_blocks(blocks: torch.Tensor, places: Places) -> torch.Tensor:
    """(N, K, s, s, C) → (N, h·s, w·s, C), zero where no block is put."""
    return _put(blocks, places) if choice.is_transformed() else _Put.apply(blocks, places)


def _view_of_blocks(dense: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """A view (N, h, w, s, s, C) of a dense map."""
    n, height, width, c = dense.shape
    h, w = grid
    return dense.view(n, h, height // h, w, width // w, c).transpose(2, 3)


def _take(dense: torch.Tensor, places: Places) -> torch.Tensor:
    image = places.image if dense.shape[0] > 1 else 0
    return _view_of_blocks(dense.contiguous(), places.grid)[image, places.row, places.column]


def _put(blocks: torch.Tensor, places: Places) -> torch.Tensor:
    (n, _, s, _, c), (h, w) = blocks.shape, places.grid
    dense = blocks.new_zeros(n, h * s, w * s, c)
    _view_of_blocks(dense, places.grid)[places.image, places.row, places.column] = blocks
    return dense


class _Take(torch.autograd.Function):
    """Taking and putting distinct blocks are each other's adjoint; torch's own backward accumulates serially."""

    @staticmethod
    def forward(ctx: Any, dense: torch.Tensor, places: Places) -> torch.Tensor:
        ctx.places, ctx.shared = places, dense.shape[0] == 1 < places.row.shape[0]
        return _take(dense, places)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        dense = put_blocks(gradient, ctx.places)
        return (dense.sum(0, keepdim=True) if ctx.shared else dense), None


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, blocks: torch.Tensor, places: Places) -> torch.Tensor:
        ctx.places = places
        return _put(blocks, places)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return take_blocks(gradient, ctx.places), None


def resize(maps: torch.Tensor, size: Sequence[int], mode: str) -> torch.Tensor:
    """F.interpolate of (N, C, …) to `size` (align_corners False), left out where nothing is to be done.

    What compiles or traces gets it always, for its result is to serve all sizes; at the same size it changes nothing.
    """
    if not choice.is_transformed() and tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode=mode, align_corners=False)


def clip_at_zero(number: Any) -> Any:
    """max(0, number), without a branch that a trace would take for good: `number` may be a size that it follows."""
    return (number + abs(number)) // 2


def crop(maps: torch.Tensor, padding: tuple[int, int, int, int]) -> torch.Tensor:
    """(N, H, W, C) without so many tokens on the left, right, top and bottom: a view.

    What compiles gets a copy: from the strides of a view it would conclude whether anything is cut off, and so make a
    program for that case alone.
    """
    left, right, top, bottom = padding
    height, width = maps.shape[1] - top - bottom, maps.shape[2] - left - right
    if choice.is_compiled():
        rows, columns = (torch.arange(n, device=maps.device) for n in (height, width))
        return maps.index_select(1, rows + top).index_select(2, columns + left)
    return maps[:, top : top + height, left : left + width]
