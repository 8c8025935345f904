"""The encoder as a Detectron2 backbone, and its feature pyramids (paper, section 3.4).

`build_convmae_backbone` gives E1, E2, E3 at strides 4, 8, 16 and E4, their 2×2 max-pool, at stride 32, without a norm;
`build_convmae_fpn_backbone` puts Detectron2's FPN on them, `build_convmae_sfp_backbone` its SimpleFeaturePyramid on E3.
`build_convmae_upernet_backbone` has another E4, for the head of modeling/upernet.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone import vit
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from ..config.building import build_backbone_arguments, build_fpn_arguments, build_pyramid_arguments
from ..ops.maps import clip_at_zero
from ..ops.recomputation import recompute_activations
from .blocks import ConvBlock, TransformerBlock
from .encoder import STRIDES, Encoder, list_feature_channels, select_feature_maps
from .window_schedule import build_attention_windows

E4_KERNEL = 3  # of the convolution that gives UPerNet's


class ConvMAEBackbone(Backbone):
    """Images (N, channels, H, W), H and W multiples of 32 for all four features → {"e1": (N, C1, H/4, W/4), …}."""

    @configurable
    def __init__(
        self,
        *,
        encoder: Encoder,
        out_features: Sequence[str] = tuple(STRIDES),
        square_pad: int = 0,
        freeze_stages: int = 0,
    ):
        """Wraps an encoder.

        Args:
            encoder: of dense maps
            out_features: some of e1, e2, e3, e4
            square_pad: pixels: Detectron2 pads every image to this square; 0: to a multiple of 32
            freeze_stages: this many first stages are not trained
        """
        super().__init__()
        self.encoder = encoder
        self._out_features = list(out_features)
        self._out_feature_strides = STRIDES
        self._out_feature_channels = list_feature_channels(encoder.embed_dims)
        self._square_pad = square_pad
        for stage in encoder.stages[:freeze_stages]:
            stage.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, Any]:
        arguments = build_backbone_arguments(cfg)
        shape = arguments.pop("encoder")
        windows = build_attention_windows(shape["depths"][2], **arguments.pop("windows"))
        encoder = Encoder(**shape, windows=windows)
        if arguments.pop("activation_checkpoint"):
            recompute_activations(encoder, (ConvBlock, TransformerBlock))
        return arguments | {"encoder": encoder}

    @property
    def size_divisibility(self) -> int:
        return STRIDES["e4"]

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"size_divisibility": self.size_divisibility, "square_size": self._square_pad}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return select_feature_maps(self.encoder(images), self._out_features)


class UPerNetBackbone(ConvMAEBackbone):
    """E1, E2, E3 of the encoder, and E4 by a convolution of stride 2 that doesn't pad E3.

    Of h × w tokens of E3, 3×3 at least, E4 has ((h−1) // 2) × ((w−1) // 2).
    """

    @configurable
    def __init__(self, *, encoder: Encoder, **options: Any):
        """`options`: of :class:`ConvMAEBackbone`."""
        super().__init__(encoder=encoder, **options)
        width = encoder.embed_dims[-1]
        self.e4 = nn.Sequential(nn.Conv2d(width, width, E4_KERNEL, stride=2), nn.BatchNorm2d(width), nn.GELU())

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = select_feature_maps(self.encoder(images), ["e1", "e2", "e3"])
        below, right = (clip_at_zero(E4_KERNEL - side) for side in maps["e3"].shape[-2:])
        return maps | {"e4": self.e4(F.pad(maps["e3"], (0, right, 0, below)))}


class SimpleFeaturePyramid(vit.SimpleFeaturePyramid):
    """Detectron2's, which misspells the constraint that pads images of any size to a multiple of 32 pixels."""

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility


@BACKBONE_REGISTRY.register()
def build_convmae_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ConvMAEBackbone:
    """E1–E4 for heads that take a backbone as it is."""
    return ConvMAEBackbone(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_convmae_upernet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> UPerNetBackbone:
    """E1–E4 as the published UPerNet has them."""
    return UPerNetBackbone(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_convmae_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's FPN on the four-scale features; p2–p6, or p2–p7 where RetinaNet asks for p7."""
    arguments = build_fpn_arguments(cfg)
    channels = arguments["out_channels"]
    wants_p7 = arguments.pop("top_level") == "p7"
    top_block = LastLevelP6P7(channels, channels, in_feature="p5") if wants_p7 else LastLevelMaxPool()
    return FPN(bottom_up=ConvMAEBackbone(cfg, input_shape), top_block=top_block, **arguments)


@BACKBONE_REGISTRY.register()
def build_convmae_sfp_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SimpleFeaturePyramid:
    """ViTDet's pyramid, p2–p6 from E3 alone (the second published code)."""
    return SimpleFeaturePyramid(
        net=ConvMAEBackbone(cfg, input_shape),
        in_feature="e3",
        scale_factors=(4.0, 2.0, 1.0, 0.5),
        top_block=LastLevelMaxPool(),
        **build_pyramid_arguments(cfg),
    )
