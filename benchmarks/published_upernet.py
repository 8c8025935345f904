"""The published UPerNet in its plain form, with the names of the published file: what tests hold ours against.

Images whose sides are multiples of 16 and fill the grid that it is built for, so that nothing is cropped or resized.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .published import Block, Encoder, RelativePositionBias

SIZES = (1, 2, 3, 6)


class ScaledBlock(Block):
    """A block with a table of relative positions of its own, whose branches are scaled."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, grid: tuple[int, int]):
        super().__init__(dim, num_heads, mlp_ratio)
        self.norm1.eps = self.norm2.eps = 1e-5
        self.gamma_1, self.gamma_2 = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))
        bias = RelativePositionBias(num_heads, grid)
        self.attn.relative_position_bias_table = bias.relative_position_bias_table
        self.attn.register_buffer("relative_position_index", bias.index)

    def forward(self, tokens: torch.Tensor, attend=None) -> torch.Tensor:
        table, index = self.attn.relative_position_bias_table, self.attn.relative_position_index
        bias = table[index].permute(2, 0, 1)[None]
        tokens = tokens + self.gamma_1 * self.attn(self.norm1(tokens), bias)
        return tokens + self.gamma_2 * self.mlp(self.norm2(tokens))


class Backbone(Encoder):
    """images (N, channels, H, W) → E1–E4, E4 being (N, C3, (h−1) // 2, (w−1) // 2)"""

    def __init__(self, *, embed_dims: Sequence[int], grid: tuple[int, int], **encoder):
        super().__init__(embed_dims=embed_dims, grid=grid, **encoder)
        width, heads, ratio = embed_dims[2], encoder["num_heads"], encoder["mlp_ratios"][2]
        self.blocks3 = nn.ModuleList(ScaledBlock(width, heads, ratio, grid) for _ in range(encoder["depths"][2]))
        self.fpn = nn.Sequential(nn.Conv2d(width, width, 3, stride=2), nn.BatchNorm2d(width), nn.GELU())

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        e1, e2, tokens = self.convolutions(images)
        for block in self.blocks3:
            tokens = block(tokens)
        e3 = tokens.transpose(1, 2).unflatten(2, self.grid)
        return [e1, e2, e3, self.fpn(e3)]


class ConvModule(nn.Module):
    def __init__(self, in_dim: int, dim: int, size: int):
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(maps)))


class DecodeHead(nn.Module):
    """[E1, …, E4] → (N, classes, H/4, W/4)"""

    def __init__(self, dims: Sequence[int], dim: int, classes: int):
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvModule(dims[-1], dim, 1)) for size in SIZES
        )
        self.bottleneck = ConvModule(dims[-1] + 4 * dim, dim, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(width, dim, 1) for width in dims[:-1])
        self.fpn_convs = nn.ModuleList(ConvModule(dim, dim, 3) for _ in dims[:-1])
        self.fpn_bottleneck = ConvModule(4 * dim, dim, 3)
        self.conv_seg = nn.Conv2d(dim, classes, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        e1, e2, e3, e4 = maps
        p4 = self.bottleneck(torch.cat([e4, *(enlarge(module(e4), e4) for module in self.psp_modules)], dim=1))
        l1, l2, l3 = (conv(e) for conv, e in zip(self.lateral_convs, (e1, e2, e3), strict=True))
        l3 = l3 + enlarge(p4, l3)
        l2 = l2 + enlarge(l3, l2)
        l1 = l1 + enlarge(l2, l1)
        p1, p2, p3 = (conv(x) for conv, x in zip(self.fpn_convs, (l1, l2, l3), strict=True))
        return self.conv_seg(self.fpn_bottleneck(torch.cat([p1, *(enlarge(p, p1) for p in (p2, p3, p4))], dim=1)))


class AuxiliaryHead(nn.Module):
    def __init__(self, in_dim: int, dim: int, classes: int):
        super().__init__()
        self.convs = nn.ModuleList([ConvModule(in_dim, dim, 3)])
        self.conv_seg = nn.Conv2d(dim, classes, 1)

    def forward(self, e3: torch.Tensor) -> torch.Tensor:
        return self.conv_seg(self.convs[0](e3))


class UPerNet(nn.Module):
    """images → E1–E4, logits at stride 4 and, unless `auxiliary_dim` is 0, auxiliary ones at stride 16"""

    def __init__(self, *, classes: int, dim: int, auxiliary_dim: int, embed_dims: Sequence[int], **backbone):
        super().__init__()
        self.backbone = Backbone(embed_dims=embed_dims, **backbone)
        self.decode_head = DecodeHead([*embed_dims, embed_dims[-1]], dim, classes)
        self.auxiliary_head = AuxiliaryHead(embed_dims[-1], auxiliary_dim, classes) if auxiliary_dim else None

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor | None]:
        maps = self.backbone(images)
        return maps, self.decode_head(maps), self.auxiliary_head(maps[2]) if self.auxiliary_head else None


def enlarge(maps: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return F.interpolate(maps, size=other.shape[2:], mode="bilinear", align_corners=False)
