"""Masked autoencoder: the meta-architecture of pretraining, its target and its loss (paper, section 3).

N images, H×W pixels, L = H/16 · W/16 stage-3 tokens, K of them visible, P = 16·16·channels values of a patch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from ..config.building import build_masked_autoencoder_arguments
from ..errors import InputError
from ..ops.maps import mark_occupied, put_blocks, take_blocks
from ..ops.recomputation import recompute_activations
from .blocks import ConvBlock, TransformerBlock
from .decoder import Decoder, MultiScaleFusion
from .embeddings import PATCH_SIZES, fold, unfold
from .encoder import STRIDE, Encoder
from .masking import Mask, build_block_mask, build_random_mask, draw_complementary, draw_visible

FUSION_RATIOS = (4, 2)  # the stride of stage 3 relative to stages 1 and 2


@dataclass
class Reconstruction:
    """N is the number of images, or of image–mask pairs with complementary masks."""

    loss: torch.Tensor  # float32 scalar
    prediction: torch.Tensor  # (N, L, P); zero where nothing is predicted
    visible: torch.Tensor  # (N, L) bool
    latent: torch.Tensor  # (N, K, C3) visible tokens in raster order, after the norm
    hidden: torch.Tensor  # (N, L, P) bool; the pixels that the loss is taken over


@META_ARCH_REGISTRY.register()
class MaskedAutoencoder(nn.Module):
    """Encoder on visible blocks, multi-scale fusion, decoder, loss on the hidden patches."""

    @configurable
    def __init__(
        self,
        *,
        encoder: Encoder,
        fusion: MultiScaleFusion | None,
        decoder: Decoder,
        pixel_mean: list[float],
        pixel_std: list[float],
        mask_ratio: float = 0.75,
        masking: str = "block",
        masked_conv: bool = True,
        complementary_masks: bool = False,
        norm_pix_loss: bool = True,
    ):
        super().__init__()
        self.encoder, self.fusion, self.decoder = encoder, fusion, decoder
        self.mask_ratio, self.masking, self.masked_conv = mask_ratio, masking, masked_conv
        self.complementary_masks, self.norm_pix_loss = complementary_masks, norm_pix_loss
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = build_masked_autoencoder_arguments(cfg)
        shape = arguments.pop("encoder")
        encoder = Encoder(**shape)
        if arguments.pop("activation_checkpoint"):
            recompute_activations(encoder, (ConvBlock, TransformerBlock))
        multi_scale = arguments.pop("multi_scale")
        return arguments | {
            "encoder": encoder,
            "fusion": MultiScaleFusion(shape["embed_dims"], FUSION_RATIOS) if multi_scale else None,
            "decoder": Decoder(**arguments.pop("decoder")),
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batch: Sequence[dict] | Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Computes the loss.

        Args:
            batch: {"images": (N, channels, H, W)} in 0–255, best as uint8; or Detectron2's list of dicts, of which each
                "image" is (channels, H, W), all of one size. "noise", (N, L) or in each dict (L,), decides the mask
        """
        if not isinstance(batch, Mapping):
            noise = {"noise": torch.stack([x["noise"] for x in batch])} if "noise" in batch[0] else {}
            batch = {"images": torch.stack([x["image"] for x in batch])} | noise
        batch = {name: batch[name].to(self.device, non_blocking=True) for name in ("images", "noise") if name in batch}
        images = (batch["images"].float() - self.pixel_mean) / self.pixel_std
        return {"loss_reconstruction": self.predict_hidden(*self.draw_mask(images, batch.get("noise")))[0]}

    def reconstruct(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> Reconstruction:
        """Hides a part of images and predicts it; differentiable.

        Args:
            images: (N, channels, H, W), normalised, H and W multiples of 16
            noise: (N, L), of which the lowest K are visible; random masking: one value for each 4×4 pixel patch,
                (N, H/4 · W/4); None: drawn
        """
        images, mask = self.draw_mask(images, noise)
        loss, patches, latent = self.predict_hidden(images, mask)
        prediction = put_blocks(patches[:, :, None, None], mask.predicted).flatten(1, 2)
        hidden = mask.hidden_pixels
        if hidden is None:
            hidden = mark_occupied(mask.predicted)[..., None].expand_as(prediction)
        return Reconstruction(loss, prediction, mark_occupied(mask.visible), latent, hidden)

    def predict_hidden(self, images: torch.Tensor, mask: Mask) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The loss, the predicted patches (N, patches predicted, P) and the latents (N, K, C3)."""
        features = self.encoder(images, mask.layout)
        fused = self.fusion(features) if self.fusion else features[-1]
        latent = self.encoder.norm(fused).flatten(1, -2)
        prediction = self.decoder(latent, mask.visible, mask.predicted)
        patches = take_blocks(patchify(images).unflatten(1, mask.predicted.grid), mask.predicted).flatten(1, 3)
        target = build_target_patches(patches.float(), self.norm_pix_loss)
        return compute_reconstruction_loss(prediction, target, mask.hidden_pixels), prediction, latent

    def draw_mask(self, images: torch.Tensor, noise: torch.Tensor | None) -> tuple[torch.Tensor, Mask]:
        """What is hidden of the images, which are repeated where each has several complementary masks."""
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise InputError(f"an image of {height}×{width} pixels can't be masked; make it multiples of {STRIDE}")
        grid, side = (height // STRIDE, width // STRIDE), STRIDE if self.masking == "block" else PATCH_SIZES[0]
        shape = images.shape[0], (height // side) * (width // side)
        if noise is None:
            noise = torch.rand(shape, device=images.device)
        elif noise.shape != shape:
            raise InputError(f"noise is {tuple(noise.shape)}; these images need {shape}")
        if self.masking == "random":
            return images, build_random_mask(noise, self.mask_ratio, grid, images.shape[1])
        if self.complementary_masks:
            indices = draw_complementary(noise, self.mask_ratio)
            images = images.repeat_interleave(indices.shape[0] // images.shape[0], dim=0)
        else:
            indices = draw_visible(noise, self.mask_ratio)
        return images, build_block_mask(indices, grid, self.masked_conv)


def patchify(images: torch.Tensor) -> torch.Tensor:
    """(N, channels, H, W) → (N, L, P)"""
    return fold(images.permute(0, 2, 3, 1), STRIDE).flatten(1, 2)


def unpatchify(patches: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(N, L, P) → (N, channels, H, W) for a grid (H/16, W/16)."""
    return unfold(patches.unflatten(1, tuple(grid)), STRIDE).permute(0, 3, 1, 2)


def compute_patch_statistics(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (…, 1) of each patch: unbiased variance plus 1e-6, as in MAE's code."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def build_target_patches(patches: torch.Tensor, normalise: bool) -> torch.Tensor:
    """What the decoder is to predict of `patches` (…, P): themselves, or normalised by their own statistics."""
    if not normalise:
        return patches
    mean, deviation = compute_patch_statistics(patches)
    return (patches - mean) / deviation


def compute_reconstruction_loss(
    prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared error over hidden patches, a float32 scalar: prediction, target (N, patches, P).

    `weight` of the same shape, 1 at pixels that count and 0 elsewhere; None: all count.
    """
    error = (prediction.float() - target.float()).square()
    return error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp(min=1)
