import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.small import autoencoder_cfg, randomise
from torch import nn

from convmae_det.errors import InputError
from convmae_det.modeling.masked_autoencoder import build_target_patches, patchify
from convmae_det.ops.maps import mark_occupied
from convmae_det.visualization.reconstructions import (
    BLANK,
    build_panels,
    convert_to_rgb,
    draw_reconstructions,
    make_noise,
)

MASKINGS = {
    "block": (),
    "convolution not masked": ("MODEL.MAE.MASKED_CONV", False),
    "random": ("MODEL.MAE.MASKING", "random"),
    "complementary": ("MODEL.MAE.COMPLEMENTARY_MASKS", True),
}


def build(*options, channels: int = 3):
    statistics = ("MODEL.PIXEL_MEAN", [110.0 + 5 * c for c in range(channels)])
    statistics += ("MODEL.PIXEL_STD", [50.0 + 3 * c for c in range(channels)])
    return randomise(build_model(autoencoder_cfg(*statistics, *options)))


def random_images(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Smooth enough that neither a patch's mean nor a constant describes it."""
    generator = torch.Generator().manual_seed(height * width + channels)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator, dtype=torch.uint8)


def visible_pixels(noise: torch.Tensor, side: int, height: int, width: int, ratio: float = 0.75) -> np.ndarray:
    """(N, height, width) bool: where the squares of `side` pixels with the lowest noise lie."""
    order = noise.numpy().argsort(axis=1)
    shown = np.zeros(noise.shape, dtype=bool)
    np.put_along_axis(shown, order[:, : int(noise.shape[1] * (1 - ratio))], True, axis=1)
    return shown.reshape(-1, height // side, width // side).repeat(side, 1).repeat(side, 2)


class Perfect(nn.Module):
    """Stands in for the decoder and predicts the target."""

    def __init__(self, model, images):
        super().__init__()
        self.images = (images - model.pixel_mean) / model.pixel_std
        self.normalise = model.norm_pix_loss

    def forward(self, latent, visible, predicted):
        patches = patchify(self.images.repeat_interleave(len(latent) // len(self.images), dim=0))
        shown = patches[mark_occupied(predicted)].view(len(latent), -1, patches.shape[-1])
        return build_target_patches(shown, self.normalise)


@pytest.mark.parametrize("masking", MASKINGS)
@settings(max_examples=5)
@given(rows=st.integers(2, 5), half_columns=st.integers(1, 3), n=st.integers(1, 3))
def test_each_panel_shows_its_pixels_and_no_others(masking, rows, half_columns, n):
    model = build(*MASKINGS[masking])
    height, width = 16 * rows, 64 * half_columns  # the number of patches divides by 4, as complementary masks need
    images = random_images(n, 3, height, width)
    noise = make_noise(model, images, seed=rows)

    panels, losses = build_panels(model, images, noise)
    assert panels.shape == (n, 4, height, width, 3) and panels.dtype == np.uint8
    original, masked, reconstructed, pasted = panels.swapaxes(0, 1)
    shown = visible_pixels(noise, 4 if masking == "random" else 16, height, width)
    assert np.array_equal(original, images.permute(0, 2, 3, 1))
    assert np.array_equal(masked[shown], original[shown]) and (masked[~shown] == BLANK).all()
    assert (reconstructed[shown] == BLANK).all()
    assert np.array_equal(pasted[shown], original[shown])
    assert np.array_equal(pasted[~shown], reconstructed[~shown])
    assert not np.array_equal(pasted[~shown], original[~shown])
    assert len(losses) == n


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_perfect_prediction_gives_the_original(masking, normalise, channels):
    model = build(*MASKINGS[masking], "MODEL.MAE.NORM_PIX_LOSS", normalise, channels=channels)
    images = random_images(2, channels, 32, 64)
    model.decoder = Perfect(model, images)
    panels, losses = build_panels(model, images, make_noise(model, images, 0))
    difference = panels[:, 3].astype(int) - panels[:, 0]
    assert np.abs(difference).max() <= 1
    assert max(losses) < 1e-6


@pytest.mark.parametrize("normalise", [True, False])
def test_what_predicting_zero_shows(normalise):
    """Normalised pixels become the mean of each true patch, others the mean that the model subtracts."""
    model = build("MODEL.MAE.NORM_PIX_LOSS", normalise)
    images = random_images(1, 3, 32, 32)
    model.decoder = Perfect(model, images)
    model.decoder.register_forward_hook(lambda module, arguments, prediction: torch.zeros_like(prediction))
    panels, _ = build_panels(model, images, torch.tensor([[0.0, 1, 2, 3]]))  # the first patch is visible
    mean, std = model.pixel_mean.flatten().numpy(), model.pixel_std.flatten().numpy()
    corner = images[0, :, 16:, 16:].numpy()
    level = ((corner - mean[:, None, None]) / std[:, None, None]).mean() if normalise else 0.0
    assert np.abs(panels[0, 2, 16:, 16:] - (level * std + mean)).max() <= 0.51


@pytest.mark.parametrize("masking", MASKINGS)
def test_the_loss_of_each_image_is_the_model_s(masking):
    model = build(*MASKINGS[masking])
    images = random_images(3, 3, 64, 64)
    noise = make_noise(model, images, 0)
    _, losses = build_panels(model, images, noise)
    if masking == "complementary":  # of one image, all masks count for the model, the first for the picture
        model.complementary_masks = False
    batch = [{"image": image, "noise": order} for image, order in zip(images, noise, strict=True)]
    assert np.mean(losses) == pytest.approx(model(batch)["loss_reconstruction"].item(), rel=1e-5)
    assert losses[0] == pytest.approx(model(batch[:1])["loss_reconstruction"].item(), rel=1e-5)


def test_drawing_leaves_training_as_it_was():
    model = build("MODEL.CONVMAE.DROP_PATH_RATE", 0.5).train()
    images = random_images(2, 3, 64, 64)
    noise = make_noise(model, images, 0)
    random_state = torch.get_rng_state()
    first, second = (draw_reconstructions(model, images, noise) for _ in range(2))
    assert first.tobytes() == second.tobytes()  # in evaluation mode, no path is dropped
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    sum(model([{"image": image} for image in images]).values()).backward()


def test_the_picture_has_four_titled_columns_and_a_row_for_each_image():
    model = build()
    images = random_images(3, 3, 64, 128)
    panels, _ = build_panels(model, images, make_noise(model, images, 0))
    picture = np.asarray(draw_reconstructions(model, images, make_noise(model, images, 0)))
    scale = 2  # 128 pixels are too narrow
    assert picture.shape[1] > 4 * scale * 128 and picture.shape[0] > 3 * scale * 64
    for row in panels:
        for panel in row:
            assert contains(picture, panel.repeat(scale, 0).repeat(scale, 1))


def contains(picture: np.ndarray, panel: np.ndarray) -> bool:
    height, width, _ = panel.shape
    corners = np.argwhere((picture[: 1 - height, : 1 - width] == panel[0, 0]).all(-1))
    return any(np.array_equal(picture[y : y + height, x : x + width], panel) for y, x in corners)


def test_seeded_noise_is_a_function_of_the_seed():
    model, images = build(), random_images(2, 3, 32, 64)
    assert make_noise(model, images, 0).shape == (2, 8)
    assert torch.equal(make_noise(model, images, 3), make_noise(model, images, 3))
    assert not torch.equal(make_noise(model, images, 3), make_noise(model, images, 4))


def test_channels_as_colours():
    pixels = random_images(1, 4, 2, 3)
    red_green_blue = pixels[:, :3].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(convert_to_rgb(pixels[:, :3]), red_green_blue)
    assert np.array_equal(convert_to_rgb(pixels[:, :3].flip(1), "BGR"), red_green_blue)
    assert np.array_equal(convert_to_rgb(pixels[:, :1]), red_green_blue[..., [0, 0, 0]])
    pixels[:, 3] = torch.tensor([[0, 255, 255], [255, 0, 51]])
    shown = convert_to_rgb(pixels)[0]
    assert (shown[0, 0] == 255).all() and (shown[1, 1] == 255).all()  # transparent: the white behind it
    assert np.array_equal(shown[0, 1:], red_green_blue[0, 0, 1:])
    assert np.abs(shown[1, 2] - (0.2 * red_green_blue[0, 1, 2] + 0.8 * 255)).max() <= 0.51
    beyond = torch.tensor([-9.0, 300, 7.6]).view(1, 3, 1, 1)
    assert convert_to_rgb(beyond).flatten().tolist() == [0, 255, 8]
    with pytest.raises(InputError, match="5 channels"):
        convert_to_rgb(random_images(1, 5, 2, 2))
