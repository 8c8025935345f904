"""The four feature maps that detection takes from the encoder: E1, E2, E3, and E4 from E3 (paper, section 3.4)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

STRIDES = {"e1": 4, "e2": 8, "e3": 16, "e4": 32}


def feature_channels(embed_dims: Sequence[int]) -> dict[str, int]:
    c1, c2, c3 = embed_dims
    return {"e1": c1, "e2": c2, "e3": c3, "e4": c3}


def feature_maps(stages: Sequence[torch.Tensor], names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The encoder's [E1, E2, E3], (N, h, w, C) each, → the maps with `names`, (N, C, h, w); E4 is E3's 2×2 max-pool."""
    maps = {f"e{i}": stage.permute(0, 3, 1, 2) for i, stage in enumerate(stages, start=1)}
    if "e4" in names:
        maps["e4"] = F.max_pool2d(maps["e3"], kernel_size=2)
    return {name: maps[name] for name in names}
