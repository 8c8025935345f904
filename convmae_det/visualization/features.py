"""What an encoder tells apart in an image, as colours: the first three principal components of its features."""

import cv2
import numpy as np
import torch

from .predictions import choose_scale

SHOWN = (0.01, 0.99)  # quantiles of a component that are black and white


def draw_features(features: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Draws a map of features; places of alike features have alike colours.

    Args:
        features: (C, h, w) of an image
        size: (height, width) of the image

    Returns:
        (height, width, 3) uint8 RGB, or larger by the same factor, as the image is drawn
    """
    tokens = features.detach().float().cpu().flatten(1).T
    tokens = tokens - tokens.mean(dim=0)
    _, _, directions = torch.linalg.svd(tokens, full_matrices=False)
    directions = directions[:3]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    components = tokens @ (directions * largest.sign()).T  # signs are otherwise any
    low, high = (components.quantile(share, dim=0) for share in SHOWN)
    shares = ((components - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    shares = torch.nn.functional.pad(shares, (0, 3 - shares.shape[1]))
    cells = (255 * shares).round().byte().reshape(*features.shape[1:], 3).numpy()
    height, width = (choose_scale(*size) * side for side in size)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
