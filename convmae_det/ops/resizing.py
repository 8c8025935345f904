"""Maps and tables brought to a size that they may have already."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from . import choice


def resize(maps: torch.Tensor, size: Sequence[int], mode: str) -> torch.Tensor:
    """F.interpolate of (N, C, …) to `size` (align_corners False), left out where nothing is to be done.

    What compiles or traces gets it always, for its result is to serve all sizes; at the same size it changes nothing.
    """
    if not choice.is_transformed() and tuple(maps.shape[2:]) == tuple(size):
        return maps
    corners = None if mode == "nearest" else False
    return F.interpolate(maps, size=tuple(size), mode=mode, align_corners=corners)


def crop(maps: torch.Tensor, padding: tuple[int, int, int, int]) -> torch.Tensor:
    """(N, H, W, C) without so many tokens on the left, right, top and bottom: a view.

    What compiles gets a copy: from the strides of a view it would conclude whether anything is cut off, and so make a
    program for that case alone.
    """
    left, right, top, bottom = padding
    if choice.is_compiled():
        return F.pad(maps, (0, 0, -left, -right, -top, -bottom))
    return maps[:, top : maps.shape[1] - bottom, left : maps.shape[2] - right]
