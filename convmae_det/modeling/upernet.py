"""The head of UPerNet (arXiv 1807.10221), with which ConvMAE is published for semantic segmentation.

Layers inside the head have mmsegmentation's names, so that its checkpoints are read by other beginnings alone.

N images, H×W pixels, C channels of the head; maps are channels-first, bilinear resizing is with align_corners False.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn

from ..config.building import build_upernet_arguments
from ..ops.maps import resize

POOLED_SIZES = (1, 2, 3, 6)  # sides of the maps that E4 is averaged to
AUXILIARY_WEIGHT = 0.4  # of the auxiliary loss
DROPOUT_RATE = 0.1  # of whole channels before the classifiers


class ConvNormReLU(nn.Sequential):
    """Convolution without bias, batch norm, ReLU; the map keeps its size."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")


def build_classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """Builds the 1×1 convolution that gives the logits; it starts as Detectron2's: smaller weights learn much later."""
    classifier = nn.Conv2d(channels, num_classes, 1)
    nn.init.kaiming_normal_(classifier.weight, nonlinearity="linear")
    nn.init.constant_(classifier.get_parameter("bias"), 0.0)
    return classifier


@SEM_SEG_HEADS_REGISTRY.register()
class UPerHead(nn.Module):
    """Pyramid pooling of the smallest map, a top-down pyramid over all maps, and a classifier at the largest one.

    Like Detectron2's SemSegFPNHead it is called with the backbone's maps and the targets; in training an auxiliary
    head on the second smallest map has a loss of its own.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        channels: int,
        auxiliary_channels: int = 0,
        loss_weight: float = 1.0,
        ignore_value: int = 255,
    ):
        """Builds the head on maps of rising strides.

        Args:
            input_shape: channels and stride of the backbone's maps, by name
            num_classes: of the logits
            channels: C
            auxiliary_channels: of the auxiliary head; 0: without one
            loss_weight: of both losses
            ignore_value: in the targets, of pixels that have no class
        """
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride or 0)
        shapes = [input_shape[name] for name in self.in_features]
        widths = [shape.channels or 0 for shape in shapes]
        self.common_stride = shapes[0].stride or 1
        self.loss_weight, self.ignore_value = loss_weight, ignore_value

        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvNormReLU(widths[-1], channels, 1)) for size in POOLED_SIZES
        )
        self.bottleneck = ConvNormReLU(widths[-1] + len(POOLED_SIZES) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvNormReLU(width, channels, 1) for width in widths[:-1])
        self.fpn_convs = nn.ModuleList(ConvNormReLU(channels, channels, 3) for _ in widths[:-1])
        self.fpn_bottleneck = ConvNormReLU(len(widths) * channels, channels, 3)
        self.dropout = nn.Dropout2d(DROPOUT_RATE)
        self.conv_seg = build_classifier(channels, num_classes)
        self.auxiliary_head = None
        if auxiliary_channels:
            self.auxiliary_head = AuxiliaryHead(widths[-2], auxiliary_channels, num_classes)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        return build_upernet_arguments(cfg) | {"input_shape": input_shape}

    def forward(
        self, features: Mapping[str, torch.Tensor], targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Computes the losses in training, else the logits at the size of the images.

        Args:
            features: the backbone's maps (N, channels, h, w), by name
            targets: (N, H, W) int64: the class of each pixel, or `ignore_value`

        Returns:
            None and the losses, or (N, classes, H, W) and no losses
        """
        logits = self.layers(features)
        if not self.training:
            height, width = (side * self.common_stride for side in logits.shape[-2:])
            return resize(logits, (height, width), "bilinear"), {}
        assert targets is not None
        losses = {"loss_sem_seg": self.compute_loss(logits, targets)}
        if self.auxiliary_head is not None:
            auxiliary = self.auxiliary_head(features[self.in_features[-2]])
            losses["loss_auxiliary"] = AUXILIARY_WEIGHT * self.compute_loss(auxiliary, targets)
        return None, losses

    def layers(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The backbone's maps → logits (N, classes, H/4, W/4)."""
        maps = [features[name] for name in self.in_features]
        merged = [lateral(e) for lateral, e in zip(self.lateral_convs, maps, strict=False)]
        merged.append(self.pool(maps[-1]))
        for larger in reversed(range(len(merged) - 1)):
            merged[larger] = merged[larger] + resize_to(merged[larger + 1], merged[larger])
        outputs = [conv(e) for conv, e in zip(self.fpn_convs, merged, strict=False)] + merged[-1:]
        fused = self.fpn_bottleneck(torch.cat([resize_to(e, outputs[0]) for e in outputs], dim=1))
        return self.conv_seg(self.dropout(fused))

    def pool(self, smallest: torch.Tensor) -> torch.Tensor:
        """(N, channels, h, w) → (N, C, h, w), which sees the whole image at several scales."""
        pooled = [resize_to(module(smallest), smallest) for module in self.psp_modules]
        return self.bottleneck(torch.cat([smallest, *pooled], dim=1))

    def compute_loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over the pixels that have a class; 0 where none has."""
        logits = resize(logits.float(), targets.shape[-2:], "bilinear")
        total = F.cross_entropy(logits, targets, ignore_index=self.ignore_value, reduction="sum")
        return self.loss_weight * total / (targets != self.ignore_value).sum().clamp(min=1)


class AuxiliaryHead(nn.Module):
    """A 3×3 convolution and a classifier on one map: (N, channels, h, w) → (N, classes, h, w)."""

    def __init__(self, in_channels: int, channels: int, num_classes: int):
        super().__init__()
        self.convs = nn.Sequential(ConvNormReLU(in_channels, channels, 3))
        self.dropout = nn.Dropout2d(DROPOUT_RATE)
        self.conv_seg = build_classifier(channels, num_classes)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.conv_seg(self.dropout(self.convs(maps)))


def resize_to(maps: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) at the size of another map."""
    return resize(maps, other.shape[-2:], "bilinear")
