"""What a masked autoencoder sees of images, and what it makes of them.

N images of H×W pixels, L = H/16 · W/16 patches of P = 16·16·channels values.
"""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.evaluation import inference_context
from PIL import Image

from ..config.checks.data import BANDS
from ..data.image import choose_shown
from ..errors import InputError
from ..modeling.embeddings import PATCH_SIZES
from ..modeling.encoder import STRIDE
from ..modeling.masked_autoencoder import (
    MaskedAutoencoder,
    build_target_patches,
    compute_patch_statistics,
    compute_reconstruction_loss,
    patchify,
    unpatchify,
)
from .sheet import draw_sheet

TITLES = ("original", "masked", "reconstructed", "with visible patches")
BLANK = 200  # grey level where a panel shows nothing: lighter than what fills most images


def draw_reconstructions(
    model: MaskedAutoencoder,
    images: torch.Tensor,
    noise: torch.Tensor | None = None,
    image_format: str = "RGB",
    bands: Sequence[int] = (),
) -> Image.Image:
    """Draws a row of four panels for each image, under it the loss; the arguments are those of `build_panels`."""
    panels, losses = build_panels(model, images, noise, image_format, bands)
    return draw_sheet(list(map(list, panels)), TITLES, [f"loss {loss:.4f}" for loss in losses])


def make_noise(model: MaskedAutoencoder, images: torch.Tensor, seed: int) -> torch.Tensor:
    """Makes noise (N, L), with random masking (N, H/4 · W/4), that hides the same patches each time, on any device."""
    n, _, height, width = images.shape
    side = PATCH_SIZES[0] if model.masking == "random" else STRIDE
    length = (height // side) * (width // side)
    return torch.rand(n, length, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def build_panels(
    model: MaskedAutoencoder,
    images: torch.Tensor,
    noise: torch.Tensor | None = None,
    image_format: str = "RGB",
    bands: Sequence[int] = (),
) -> tuple[np.ndarray, list[float]]:
    """Builds four panels: the original; its visible pixels; the prediction of the hidden ones; the two together.

    The model is in evaluation mode meanwhile. Of the several masks of each image in the case of complementary masks,
    the first is shown. Normalised pixels are undone with the true patch's mean and standard deviation.

    Args:
        images: (N, channels, H, W) in 0–255, not normalised, H and W multiples of 16
        noise: decides what is hidden, as for `MaskedAutoencoder.reconstruct`; see `make_noise`
        image_format: INPUT.FORMAT; it matters if it is BGR or bands
        bands: INPUT.SHOWN_BANDS

    Returns:
        panels (N, 4, H, W, 3) uint8 RGB, and the loss of each image
    """
    images = images.to(model.device, torch.float32)
    normalised = (images - model.pixel_mean) / model.pixel_std
    with inference_context(model):
        result = model.reconstruct(normalised, None if noise is None else noise.to(model.device))
    masks = len(result.prediction) // len(images)  # of each image
    prediction, hidden = result.prediction[::masks].float(), result.hidden[::masks]

    patches = patchify(normalised)
    target = build_target_patches(patches, model.norm_pix_loss)
    losses = [compute_reconstruction_loss(*image).item() for image in zip(prediction, target, hidden, strict=True)]
    if model.norm_pix_loss:
        mean, deviation = compute_patch_statistics(patches)
        prediction = prediction * deviation + mean
    grid = images.shape[-2] // STRIDE, images.shape[-1] // STRIDE
    predicted = unpatchify(prediction, grid) * model.pixel_std + model.pixel_mean

    original, predicted = (convert_to_rgb(x, image_format, bands) for x in (images, predicted))
    shown = ~unpatchify(hidden, grid)[:, 0, :, :, None].cpu().numpy()
    panels = [
        original,
        np.where(shown, original, np.uint8(BLANK)),
        np.where(shown, np.uint8(BLANK), predicted),
        np.where(shown, original, predicted),
    ]
    return np.stack(panels, axis=1), losses


def convert_to_rgb(images: torch.Tensor, image_format: str = "RGB", bands: Sequence[int] = ()) -> np.ndarray:
    """Converts (N, channels, H, W) in 0–255 → (N, H, W, 3) uint8: one channel is grey, a fourth is opacity, on white.

    Of the format "bands", those that `choose_shown` chooses.
    """
    if image_format == BANDS:
        images = images[:, choose_shown(images.shape[1], bands)]
    pixels = images.clamp(0, 255).permute(0, 2, 3, 1).cpu().numpy()
    channels = pixels.shape[-1]
    if channels == 1:
        pixels = pixels.repeat(3, axis=-1)
    elif channels == 4:
        opacity = pixels[..., 3:] / 255
        pixels = pixels[..., :3] * opacity + 255 * (1 - opacity)
    elif channels != 3:
        raise InputError(f"an image of {channels} channels can't be shown; it must have 1, 3 or 4")
    if image_format == "BGR":
        pixels = pixels[..., ::-1]
    return pixels.round().astype(np.uint8)
