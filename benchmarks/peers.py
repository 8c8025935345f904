"""Peers: base-sized networks of other methods, built from timm's and Detectron2's own blocks, with random weights.

Pretraining: masked autoencoders. They draw what is hidden in units of `mask_unit` × `mask_unit` pixels, so that their
noise has one value for each.

Detection: backbones, which give their feature maps, in a list or by name. Only their speed is of interest.

All take the side of a square image in pixels, and widths and depths, whose defaults are those of the base models.

N images, L patches of 16×16 pixels, P = 16·16·3 values of a patch, U units of s × s patches, V of them visible.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import timm
import torch
from detectron2.modeling import ViT
from timm.layers import PatchEmbed, build_sincos2d_pos_embed
from timm.models.hiera import Hiera
from timm.models.vision_transformer import Block
from torch import nn

from convmae_det.errors import InputError

PATCH = 16
PATCH_VALUES = PATCH**2 * 3
LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class Reconstruction(NamedTuple):
    loss: torch.Tensor  # scalar
    latent: torch.Tensor  # (N, visible tokens, C): what the encoder gives to the decoder


class MaskedViT(nn.Module):
    """MAE (arXiv 2111.06377): a ViT encodes 49 of 196 patches and a class token, a decoder of width 512 all 197.

    All patches are embedded before the hidden ones are taken out, and all are predicted, as in its published form.
    """

    mask_unit = PATCH

    def __init__(self, size: int, dim=768, depth=12, heads=12, mask_ratio=0.75, decoder: dict | None = None):
        super().__init__()
        self.mask_ratio, grid = mask_ratio, (size // PATCH, size // PATCH)
        self.patch_embed = PatchEmbed(size, PATCH, 3, dim)
        self.register_buffer("position", build_sincos2d_pos_embed(grid, dim), persistent=False)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.blocks = transformer(dim, depth, heads)
        self.norm = LayerNorm(dim)
        self.decoder = Decoder(grid, 1, dim, **decoder or {})

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> Reconstruction:
        """images (N, 3, H, W), noise (N, L), the lowest are visible"""
        kept, visible = draw(noise, self.mask_ratio)
        tokens = self.patch_embed(images) + self.position
        tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(images), -1, -1), tokens], dim=1)
        latent = self.norm(self.blocks(tokens))
        prediction = self.decoder(latent[:, 1:, None], visible, class_token=latent[:, :1])
        return Reconstruction(loss_of(prediction, images, visible, 1), latent)


class MaskedHiera(nn.Module):
    """Hiera's masked autoencoder (arXiv 2306.00989); attention stays inside the units in stages 1 and 2.

    19 of 49 units of 32×32 pixels are visible: 1,216 tokens of stride 4 and width 96 in two blocks, 304 of stride 8 and
    width 192 in three, 76 of stride 16 and width 384 in sixteen and, with two poolings instead of three, as many of
    width 768 in the last three. A convolution for each of the first two stages fuses these with the last; stage 3 is
    left out. The decoder, of width 512, has all 196 patches.
    """

    mask_unit = 32

    def __init__(self, size: int, dim=96, depths=(2, 3, 16, 3), heads=1, mask_ratio=0.6, decoder: dict | None = None):
        super().__init__()
        check_hiera(size)
        self.mask_ratio, grid = mask_ratio, (size // PATCH, size // PATCH)
        self.encoder = Hiera((size, size), embed_dim=dim, num_heads=heads, stages=depths, q_pool=2)
        self.encoder.head = nn.Identity()
        self.fusion = nn.ModuleList(
            nn.Conv2d(width, 8 * dim, ratio, stride=ratio) for width, ratio in ((dim, 4), (2 * dim, 2))
        )
        self.norm = LayerNorm(8 * dim)
        self.decoder = Decoder(grid, 2, 8 * dim, **decoder or {})

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> Reconstruction:
        """images (N, 3, H, W), noise (N, U), the lowest are visible"""
        _, visible = draw(noise, self.mask_ratio)
        # (N, V, 8, 8, dim), (N, V, 4, 4, 2·dim), (N, V, 2, 2, 4·dim), (N, V, 2, 2, 8·dim)
        e1, e2, _, fused = self.encoder.forward_features(images, visible, return_intermediates=True)[1]
        for head, stage in zip(self.fusion, (e1, e2), strict=True):
            maps = head(stage.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            fused = fused + maps.unflatten(0, stage.shape[:2])
        latent = self.norm(fused).flatten(2, 3)
        return Reconstruction(loss_of(self.decoder(latent, visible), images, visible, 2), latent.flatten(1, 2))


class Decoder(nn.Module):
    """Latents of the visible units, mask tokens for the others, transformer blocks, the pixels of all patches."""

    def __init__(self, grid: tuple[int, int], side: int, in_dim: int, dim=512, depth=8, heads=16):
        """`grid` of patches (h, w); `side`: patches along the side of a unit"""
        super().__init__()
        self.embed = nn.Linear(in_dim, dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(dim))
        position = build_sincos2d_pos_embed(grid, dim).view(1, *grid, dim)
        self.register_buffer("position", in_units(position, side), persistent=False)
        self.blocks = transformer(dim, depth, heads)
        self.norm = LayerNorm(dim)
        self.pred = nn.Linear(dim, PATCH_VALUES)

    def forward(self, latent: torch.Tensor, visible: torch.Tensor, class_token: torch.Tensor | None = None):
        """latent (N, V, s², in_dim), visible (N, U), class_token (N, 1, in_dim) → (N, U, s², P)"""
        embedded = self.embed(latent)
        tokens = self.mask_token.to(embedded.dtype).expand(*visible.shape, latent.shape[2], -1)
        tokens = tokens.masked_scatter(visible[..., None, None], embedded) + self.position
        tokens = tokens.flatten(1, 2)
        if class_token is not None:
            tokens = torch.cat([tokens, self.embed(class_token)], dim=1)
        prediction = self.pred(self.norm(self.blocks(tokens)))
        units, inside = visible.shape[1], latent.shape[2]
        return prediction[:, : units * inside].unflatten(1, (units, inside))


def transformer(dim: int, depth: int, heads: int) -> nn.Sequential:
    return nn.Sequential(*(Block(dim, heads, mlp_ratio=4, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth)))


def draw(noise: torch.Tensor, mask_ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, U) → the visible units, of the lowest noise: their indices (N, V) in raster order, and bool (N, U)."""
    kept = noise.argsort(dim=1)[:, : int(noise.shape[1] * (1 - mask_ratio))].sort(dim=1).values
    return kept, torch.zeros_like(noise, dtype=torch.bool).scatter(1, kept, True)


def in_units(maps: torch.Tensor, side: int) -> torch.Tensor:
    """(N, h, w, …) → (N, U, side², …)"""
    _, h, w = maps.shape[:3]
    maps = maps.unflatten(2, (w // side, side)).unflatten(1, (h // side, side)).transpose(2, 3)
    return maps.flatten(3, 4).flatten(1, 2)


def loss_of(prediction: torch.Tensor, images: torch.Tensor, visible: torch.Tensor, side: int) -> torch.Tensor:
    """Mean squared error of the hidden patches' pixels, normalised by patch: prediction (N, U, s², P), s = `side`."""
    grid = images.shape[2] // PATCH, images.shape[3] // PATCH
    patches = in_units(images.permute(0, 2, 3, 1), PATCH).flatten(2)  # (N, L, P)
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    target = in_units(((patches - mean) / (variance + 1e-6).sqrt()).unflatten(1, grid), side)
    error = (prediction.float() - target).square().mean(dim=(2, 3))
    return error.masked_fill(visible, 0).sum() / (~visible).sum()


def vitdet(size: int, embed_dim=768, depth=12, num_heads=12, global_blocks: Sequence[int] = (2, 5, 8, 11)) -> nn.Module:
    """ViTDet (arXiv 2203.16527), Detectron2's: one map of stride 16, windows of 14, decomposed relative positions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Detectron2's way of importing timm
        return ViT(
            img_size=size,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            norm_layer=LayerNorm,
            use_rel_pos=True,
            window_size=14,
            window_block_indexes=[block for block in range(depth) if block not in global_blocks],
        )


def swin(size: int, **shape) -> nn.Module:
    """Swin-B (arXiv 2103.14030), timm's: strides 4, 8, 16, 32, windows of 7, alternately shifted."""
    name = "swin_base_patch4_window7_224"
    return timm.create_model(name, features_only=True, img_size=size, drop_path_rate=0.0, **shape)


def hiera(size: int, **shape) -> nn.Module:
    """Hiera-B (arXiv 2306.00989), timm's: strides 4, 8, 16, 32, global attention in stages 3 and 4."""
    check_hiera(size)
    return timm.create_model("hiera_base_224", features_only=True, img_size=(size, size), **shape)


def convnext(size: int, **shape) -> nn.Module:
    """ConvNeXt-B (arXiv 2201.03545), timm's: strides 4, 8, 16, 32. It fits images of every size."""
    return timm.create_model("convnext_base", features_only=True, **shape)


def check_hiera(size: int) -> None:
    if size % MaskedHiera.mask_unit:
        raise InputError(
            f"Hiera takes images whose sides are multiples of {MaskedHiera.mask_unit} pixels, not {size}: change the "
            "size, or leave it out with --peers"
        )


PRETRAINING = {"MAE ViT-B": MaskedViT, "MAE Hiera-B": MaskedHiera}
BACKBONES = {"ViTDet ViT-B": vitdet, "Swin-B": swin, "Hiera-B": hiera, "ConvNeXt-B": convnext}
