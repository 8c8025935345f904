"""Masked autoencoder: the meta-architecture of pretraining (paper, section 3).

N images, H×W pixels, L = H/16 · W/16 stage-3 tokens, K of them visible, P = 16·16·channels values of a patch.
"""

from dataclasses import dataclass

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from ..config.building import encoder_arguments
from ..errors import InputError
from .decoder import Decoder, MultiScaleFusion
from .encoder import STRIDE, Encoder
from .masking import (
    ScatteredPatches,
    VisibleBlocks,
    VisibleTokens,
    draw_complementary,
    draw_visible,
    visible_from_indices,
)
from .patch_embed import fold
from .reconstruction import patchify, reconstruction_loss, target_patches

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
    def from_config(cls, cfg) -> dict:
        arguments, node = encoder_arguments(cfg), cfg.MODEL.MAE
        _check(node)
        dims = arguments["embed_dims"]
        decoder = Decoder(
            in_dim=dims[-1],
            dim=node.DECODER_EMBED_DIM,
            depth=node.DECODER_DEPTH,
            num_heads=node.DECODER_NUM_HEADS,
            mlp_ratio=node.DECODER_MLP_RATIO or arguments["mlp_ratios"][0],
            patch_values=STRIDE**2 * arguments["in_channels"],
            grid=arguments["grid"],
        )
        return dict(
            encoder=Encoder(**arguments),
            fusion=MultiScaleFusion(dims, FUSION_RATIOS) if node.MULTI_SCALE_DECODER else None,
            decoder=decoder,
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            pixel_std=cfg.MODEL.PIXEL_STD,
            mask_ratio=node.MASK_RATIO,
            masking=node.MASKING,
            masked_conv=node.MASKED_CONV,
            complementary_masks=node.COMPLEMENTARY_MASKS,
            norm_pix_loss=node.NORM_PIX_LOSS,
        )

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        """Detectron2's list of dicts; each "image" is (channels, H, W) of one size, in 0–255; "noise" (L,), if given,
        decides the mask."""
        images = torch.stack([x["image"].to(self.device, torch.float32) for x in batched_inputs])
        images = (images - self.pixel_mean) / self.pixel_std
        noise = None
        if "noise" in batched_inputs[0]:
            noise = torch.stack([x["noise"].to(self.device) for x in batched_inputs])
        return {"loss_reconstruction": self._run(images, noise)[0]}

    def reconstruct(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> Reconstruction:
        """images (N, channels, H, W), normalised, H and W multiples of 16; noise (N, L), the lowest K are visible
        (random masking: one value for each 4×4 pixel patch, (N, H/4 · W/4)). Differentiable."""
        loss, patches, predict, weight, visible, latent = self._run(images, noise)
        everything = patches.new_zeros(*predict.shape, patches.shape[-1])
        everything = everything.masked_scatter(predict[..., None], patches)
        hidden = predict[..., None].expand_as(everything) if weight is None else weight
        return Reconstruction(loss, everything, visible, latent, hidden)

    def _run(self, images: torch.Tensor, noise: torch.Tensor | None):
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise InputError(f"an image of {height}×{width} pixels can't be masked; make it multiples of {STRIDE}")
        grid = (height // STRIDE, width // STRIDE)
        if self.complementary_masks:
            indices = draw_complementary(self._noise(images, noise, STRIDE), self.mask_ratio)
            images = images.repeat_interleave(indices.shape[0] // images.shape[0], dim=0)
            layout, visible, predict, weight = self._block_layout(indices, grid)
        elif self.masking == "block":
            indices = draw_visible(self._noise(images, noise, STRIDE), self.mask_ratio)
            layout, visible, predict, weight = self._block_layout(indices, grid)
        else:
            layout, visible, predict, weight = self._scattered_layout(images, noise, grid)

        features = self.encoder(images, layout)
        fused = self.fusion(features) if self.fusion else features[-1]
        latent = self.encoder.norm(fused).flatten(1, -2)
        prediction = self.decoder(latent, visible, predict, grid)
        patches = patchify(images)[predict].view(prediction.shape)
        loss = reconstruction_loss(prediction, target_patches(patches.float(), self.norm_pix_loss), weight)
        return loss, prediction, predict, weight, visible, latent

    def _noise(self, images: torch.Tensor, noise: torch.Tensor | None, patch: int) -> torch.Tensor:
        n, _, height, width = images.shape
        length = (height // patch) * (width // patch)
        if noise is None:
            return torch.rand(n, length, device=images.device)
        if noise.shape != (n, length):
            raise InputError(f"noise is {tuple(noise.shape)}; these images need {(n, length)}")
        return noise

    def _block_layout(self, indices: torch.Tensor, grid: tuple[int, int]):
        visible = visible_from_indices(indices, grid[0] * grid[1])
        layout = VisibleBlocks(indices, grid) if self.masked_conv else VisibleTokens(indices, grid)
        return layout, visible, ~visible, None

    def _scattered_layout(self, images: torch.Tensor, noise: torch.Tensor | None, grid: tuple[int, int]):
        """Every stage-3 token sees something and every patch is predicted; only its hidden pixels count."""
        size = images.shape[-2] // 4, images.shape[-1] // 4
        indices = draw_visible(self._noise(images, noise, 4), self.mask_ratio)
        layout = ScatteredPatches(visible_from_indices(indices, size[0] * size[1]).unflatten(1, size))
        visible = torch.ones(images.shape[0], grid[0] * grid[1], dtype=torch.bool, device=images.device)
        hidden = ~layout.visible_at(*images.shape[-2:]).expand(-1, -1, -1, images.shape[1])
        return layout, visible, visible, fold(hidden, STRIDE).flatten(1, 2)


def _check(node) -> None:
    """Raises InputError, naming the key, for values of `MODEL.MAE` that can't be used."""
    if not 0 < node.MASK_RATIO < 1:
        raise InputError(f"MODEL.MAE.MASK_RATIO is {node.MASK_RATIO}; it must lie between 0 and 1, such as 0.75")
    if node.MASKING not in ("block", "random"):
        raise InputError(f"MODEL.MAE.MASKING is {node.MASKING!r}; choose block or random")
    if node.COMPLEMENTARY_MASKS and node.MASKING != "block":
        raise InputError("MODEL.MAE.COMPLEMENTARY_MASKS splits blocks; set MODEL.MAE.MASKING to block")
    if not node.MASKED_CONV and node.MASKING != "block":
        raise InputError("MODEL.MAE.MASKED_CONV False is an ablation of block masking; set MODEL.MAE.MASKING to block")
    dim, heads = node.DECODER_EMBED_DIM, node.DECODER_NUM_HEADS
    if dim <= 0 or dim % 4:
        raise InputError(f"MODEL.MAE.DECODER_EMBED_DIM is {dim}; it must be a positive multiple of 4")
    if heads <= 0 or dim % heads:
        raise InputError(f"MODEL.MAE.DECODER_NUM_HEADS is {heads}, which doesn't divide DECODER_EMBED_DIM {dim}")
    if node.DECODER_DEPTH < 0 or node.DECODER_MLP_RATIO < 0:
        raise InputError("MODEL.MAE.DECODER_DEPTH and MODEL.MAE.DECODER_MLP_RATIO must not be negative")
