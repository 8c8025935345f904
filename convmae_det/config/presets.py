"""The encoders by name (the paper's table 1; tiny is ours, for experiments)."""

from typing import Any

STRIDE = 16  # pixels along the side of a stage-3 token, in all of them

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": dict(embed_dims=(32, 64, 128), depths=(2, 2, 4), num_heads=4, mlp_ratios=(4, 4, 4)),
    "small": dict(embed_dims=(128, 256, 384), depths=(2, 2, 11), num_heads=6, mlp_ratios=(4, 4, 4)),
    "base": dict(embed_dims=(256, 384, 768), depths=(2, 2, 11), num_heads=12, mlp_ratios=(4, 4, 4)),
    "large": dict(embed_dims=(384, 768, 1024), depths=(2, 2, 23), num_heads=16, mlp_ratios=(8, 8, 4)),
    "huge": dict(embed_dims=(768, 1024, 1280), depths=(2, 2, 31), num_heads=16, mlp_ratios=(8, 8, 4)),
}
