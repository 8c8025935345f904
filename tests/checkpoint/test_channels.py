"""Weights for RGB begin models of other channels: equal where the channels of an image are, and said in the report."""

import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given
from hypothesis import strategies as st
from reference.small import assert_near, autoencoder_cfg, detector_cfg

from convmae_det import create_encoder
from convmae_det.checkpoint import load_weights
from convmae_det.checkpoint.channels import match_channels
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.errors import InputError

FIRST = "stage1.patch_embed.proj.weight"


def keys(channels):
    return ["INPUT.FORMAT", "bands", "MODEL.PIXEL_MEAN", [0.0] * channels, "MODEL.PIXEL_STD", [1.0] * channels]


def spread(image, channels):
    """What an image of three channels is in others, each as the one that it is matched with; grey for fewer."""
    if channels < 3:
        image = image[:, :1].expand(-1, 3, -1, -1)
    return image[:, torch.arange(channels) % 3], image


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = build_model(autoencoder_cfg(*keys(3)))
    write_checkpoint({"model": model.state_dict()}, tmp_path / "rgb.pth")
    return model, tmp_path / "rgb.pth"


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 13])
def test_pretraining_computes_the_same_where_channels_are_equal(weights, channels):
    model, path = weights
    other = build_model(autoencoder_cfg(*keys(channels)))
    report = load_weights(other, path, other_channels=True)
    assert set(report.adapted) == {f"encoder.{FIRST}", "decoder.pred.weight", "decoder.pred.bias"}
    assert "adapted to the channels" in str(report) and not report.new
    image, rgb = spread(torch.randn(2, 3, 64, 64), channels)
    noise = torch.rand(2, 16)
    ours, theirs = (net.eval().reconstruct(x, noise) for net, x in ((other, image), (model, rgb)))
    assert_near(ours.latent, theirs.latent, 1e-5)
    if channels >= 3:
        predicted = theirs.prediction.unflatten(-1, (256, 3))[..., torch.arange(channels) % 3]
        assert_near(ours.prediction, predicted.flatten(-2), 1e-5)


@pytest.mark.parametrize("channels", [1, 5])
def test_detection_begins_from_them(weights, channels):
    model, path = weights
    detector = build_model(detector_cfg(*keys(channels)))
    report = load_weights(detector, path, other_channels=True)
    assert list(report.adapted) == [f"backbone.bottom_up.encoder.{FIRST}"]
    total = detector.state_dict()[next(iter(report.adapted))].unflatten(1, (16, channels)).sum(2)
    assert_near(total, model.state_dict()[f"encoder.{FIRST}"].unflatten(1, (16, 3)).sum(2), 1e-5)


@pytest.mark.parametrize("channels", [1, 6])
def test_features(weights, channels):
    path = weights[1]
    config = dict(embed_dims=(8, 12, 16), depths=(1, 1, 3), num_heads=2, mlp_ratios=(2, 2, 2))
    with pytest.raises(InputError, match="takes 3 channels, not .*adapt_channels=True"):
        create_encoder(config, path, in_channels=channels)
    encoder = create_encoder(config, path, in_channels=channels, adapt_channels=True).eval()
    image, rgb = spread(torch.randn(1, 3, 64, 64), channels)
    assert encoder.in_channels == channels and (encoder.mean, encoder.std) == (None, None)
    assert_near(encoder(image), create_encoder(config, path).eval()(rgb), 1e-5)


def test_the_same_channels_change_nothing(weights):
    model, path = weights
    other = build_model(autoencoder_cfg(*keys(3)))
    assert not load_weights(other, path, other_channels=True).adapted
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_without_the_option_it_is_offered(weights):
    with pytest.raises(InputError, match="set MODEL.CONVMAE.ADAPT_CHANNELS True"):
        load_weights(build_model(autoencoder_cfg(*keys(5))), weights[1])


@given(st.integers(1, 20), st.integers(1, 20))
def test_every_channel_has_a_match(model, file):
    matched = match_channels(model, file)
    assert matched.shape == (model, file) and (matched.sum(0) > 0).all() and (matched.sum(1) > 0).all()
    assert torch.equal(matched.diagonal(), torch.ones(min(model, file)))
