"""The encoder as a Detectron2 backbone, and its feature pyramids (paper, section 3.4).

`build_convmae_backbone` gives E1, E2, E3 at strides 4, 8, 16 and E4, their 2×2 max-pool, at stride 32, without a norm;
`build_convmae_fpn_backbone` puts Detectron2's FPN on them, `build_convmae_sfp_backbone` its SimpleFeaturePyramid on E3.
"""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone import vit
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7

from ..config.building import encoder_arguments, grid_of
from ..errors import InputError
from .encoder import Encoder
from .feature_maps import STRIDES, feature_channels, feature_maps
from .window_schedule import attention_windows

RELATIVE_POSITIONS = ("shared", "decomposed", "none")


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
        super().__init__()
        self.encoder = encoder
        self._out_features = list(out_features)
        self._out_feature_strides = STRIDES
        self._out_feature_channels = feature_channels(encoder.embed_dims)
        self._square_pad = square_pad
        for stage in encoder.stages[:freeze_stages]:
            stage.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec | None = None) -> dict:
        node = cfg.MODEL.CONVMAE
        arguments = encoder_arguments(cfg)
        image_grid = grid_of("MODEL.CONVMAE.IMAGE_SIZE", node.IMAGE_SIZE)
        if node.RELATIVE_POSITION not in RELATIVE_POSITIONS:
            raise InputError(
                f"MODEL.CONVMAE.RELATIVE_POSITION is {node.RELATIVE_POSITION!r}; "
                f"choose one of {', '.join(RELATIVE_POSITIONS)}"
            )
        if node.RELATIVE_POSITION != "decomposed":  # the second published code keeps the grid of pretraining
            arguments["grid"] = image_grid
        unknown = [name for name in node.OUT_FEATURES if name not in STRIDES]
        if unknown or not node.OUT_FEATURES:
            raise InputError(f"MODEL.CONVMAE.OUT_FEATURES is {node.OUT_FEATURES}; it takes some of e1, e2, e3, e4")
        if node.SQUARE_PAD < 0 or node.SQUARE_PAD % 32:
            raise InputError(f"MODEL.CONVMAE.SQUARE_PAD is {node.SQUARE_PAD}; it must be 0 or a multiple of 32 pixels")
        largest = max(cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.LSJ.IMAGE_SIZE if cfg.INPUT.LSJ.ENABLED else 0)
        if 0 < node.SQUARE_PAD < largest:
            raise InputError(
                f"MODEL.CONVMAE.SQUARE_PAD is {node.SQUARE_PAD}, smaller than the images: it must be at least "
                f"INPUT.MAX_SIZE_TEST and INPUT.LSJ.IMAGE_SIZE, here {largest}"
            )
        if not 0 <= node.FREEZE_STAGES <= 3:
            raise InputError(f"MODEL.CONVMAE.FREEZE_STAGES is {node.FREEZE_STAGES}; it must be 0, 1, 2 or 3")
        encoder = Encoder(
            **arguments,
            learned_position=True,
            windows=attention_windows(node, arguments["depths"][2]),
            relative_position=node.RELATIVE_POSITION,
            relative_grid=image_grid,
            final_norm=False,
        )
        return dict(
            encoder=encoder,
            out_features=node.OUT_FEATURES,
            square_pad=node.SQUARE_PAD,
            freeze_stages=node.FREEZE_STAGES,
        )

    @property
    def size_divisibility(self) -> int:
        return STRIDES["e4"]

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"size_divisibility": self.size_divisibility, "square_size": self._square_pad}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return feature_maps(self.encoder(images), self._out_features)


class SimpleFeaturePyramid(vit.SimpleFeaturePyramid):
    """Detectron2's, which misspells the constraint that pads images of any size to a multiple of 32 pixels."""

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility


@BACKBONE_REGISTRY.register()
def build_convmae_backbone(cfg, input_shape: ShapeSpec) -> ConvMAEBackbone:
    """E1–E4 for heads that take a backbone as it is."""
    return ConvMAEBackbone(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_convmae_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """Detectron2's FPN on the four-scale features; p2–p6, or p2–p7 where RetinaNet asks for p7."""
    bottom_up = ConvMAEBackbone(cfg, input_shape)
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" and "p7" in cfg.MODEL.RETINANET.IN_FEATURES:
        top_block = LastLevelP6P7(channels, channels, in_feature="p5")
    else:
        top_block = LastLevelMaxPool()
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
        square_pad=cfg.MODEL.CONVMAE.SQUARE_PAD,
    )


@BACKBONE_REGISTRY.register()
def build_convmae_sfp_backbone(cfg, input_shape: ShapeSpec) -> SimpleFeaturePyramid:
    """ViTDet's pyramid, p2–p6 from E3 alone (the second published code)."""
    net = ConvMAEBackbone(cfg, input_shape)
    return SimpleFeaturePyramid(
        net=net,
        in_feature="e3",
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        scale_factors=(4.0, 2.0, 1.0, 0.5),
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        square_pad=cfg.MODEL.CONVMAE.SQUARE_PAD,
    )
