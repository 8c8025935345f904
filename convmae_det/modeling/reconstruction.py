"""Patches, the target of pretraining and its loss (paper, section 3.3; MAE, arXiv 2111.06377, section 3).

N images of H×W pixels, L = H/16 · W/16 patches of P = 16·16·channels values in the order row, column, channel.
"""

import torch

from .encoder import STRIDE
from .patch_embed import fold, unfold


def patchify(images: torch.Tensor) -> torch.Tensor:
    """(N, channels, H, W) → (N, L, P)"""
    return fold(images.permute(0, 2, 3, 1), STRIDE).flatten(1, 2)


def unpatchify(patches: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(N, L, P) → (N, channels, H, W) for a grid (H/16, W/16)."""
    return unfold(patches.unflatten(1, tuple(grid)), STRIDE).permute(0, 3, 1, 2)


def patch_statistics(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (…, 1) of each patch: unbiased variance plus 1e-6, as in MAE's code."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def target_patches(patches: torch.Tensor, normalise: bool) -> torch.Tensor:
    """What the decoder is to predict of `patches` (…, P): themselves, or normalised by their own statistics."""
    if not normalise:
        return patches
    mean, deviation = patch_statistics(patches)
    return (patches - mean) / deviation


def reconstruction_loss(
    prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared error over hidden patches, a float32 scalar: prediction, target (N, patches, P).

    `weight` of the same shape, 1 at pixels that count and 0 elsewhere; None: all count.
    """
    error = (prediction.float() - target.float()).square()
    return error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp(min=1)
