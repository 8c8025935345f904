"""The features of a data set are the pooled maps of its images, one after the other, whatever the batches."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from reference.small import assert_near, autoencoder_cfg, detector_cfg, randomise

from convmae_det import create_encoder
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.data.squares import read_square
from convmae_det.errors import InputError
from convmae_det.inference import pooled_features
from convmae_det.inference.pooled_features import build_pooler, load_pooler


@pytest.fixture
def images(tmp_path):
    """Five images, of which the third is damaged."""
    generator = np.random.default_rng(0)
    for number in range(5):
        pixels = generator.integers(0, 256, (40 + number, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    return [{"file_name": str(tmp_path / f"{number}.png")} for number in range(5)]


@pytest.fixture
def weights(tmp_path):
    """The file of a small autoencoder, with its configuration beside it."""
    cfg = autoencoder_cfg("MODEL.PIXEL_MEAN", [100.0, 110.0, 120.0])
    write_checkpoint({"model": randomise(build_model(cfg)).state_dict()}, tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    return str(tmp_path / "model.pth")


@pytest.mark.parametrize(("scales", "names"), [("e3", ["e3"]), ("all", ["e1", "e2", "e3"])])
def test_features_are_pooled_maps(images, weights, scales, names):
    part = load_pooler(weights, "", "cpu", 64, scales).pool(images, range(5), "")
    extractor = create_encoder(pretrained=weights, features=names).eval()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (extractor.mean, extractor.std))
    assert 255 * mean[0] == pytest.approx(100)  # that of the configuration
    read = [0, 1, 3, 4]
    with torch.no_grad():
        squares = torch.stack([read_square(images[index]["file_name"], 64) for index in read])
        maps = extractor((squares / 255 - mean) / std)
    assert_near(part.features, torch.cat([maps[name].mean((2, 3)) for name in names], dim=1), 1e-5)
    assert part.indices.tolist() == read
    ((name, reason),) = part.skipped
    assert name == images[2]["file_name"] and "can't be read" in reason


def test_batches_change_nothing(images, weights, monkeypatch):
    pooler = load_pooler(weights, "", "cpu")
    whole = pooler.pool(images, range(5), "")
    monkeypatch.setattr(pooled_features, "BATCH_SIZE", 2)
    assert_near(pooler.pool(images, range(5), "").features, whole.features, 1e-5)
    assert_near(pooler.pool(images, [4, 2, 0], "").features, whole.features[[3, 0]], 1e-5)


def test_the_encoder_stays_as_it_is(images):
    """In its mode, with its weights, and without random numbers drawn."""
    cfg = autoencoder_cfg("MODEL.CONVMAE.DROP_PATH_RATE", 0.5, "DATALOADER.NUM_WORKERS", 0)
    model = build_model(cfg).train()
    state = torch.get_rng_state()
    pooler = build_pooler(cfg, model.encoder)
    first, second = (pooler.pool(images, range(5), "").features for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    model({"images": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)})["loss_reconstruction"].backward()


def test_the_size_is_that_of_pretraining(weights, tmp_path):
    assert load_pooler(weights, "", "cpu").size == 64
    cfg = detector_cfg("MODEL.CONVMAE.IMAGE_SIZE", 512)
    write_checkpoint({"model": build_model(cfg).state_dict()}, tmp_path / "detector.pth")
    (tmp_path / "detector.yaml").write_text(cfg.dump())
    assert load_pooler(str(tmp_path / "detector.pth"), str(tmp_path / "detector.yaml"), "cpu").size == 224


def test_random_weights(tmp_path, images):
    (tmp_path / "random.yaml").write_text(autoencoder_cfg().dump())
    features = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        features.append(load_pooler("", str(tmp_path / "random.yaml"), "cpu").pool(images, [0], "").features)
    assert torch.equal(features[0], features[1]) and not torch.equal(features[0], features[2])


def test_what_is_wrong_is_said(weights, tmp_path):
    with pytest.raises(InputError, match="--config-file"):
        load_pooler("", "", "cpu")
    with pytest.raises(InputError, match="--size is 60; it must be a positive multiple of 16"):
        load_pooler(weights, "", "cpu", 60)
    bands = create_encoder("tiny", in_channels=5).encoder  # in a file without a configuration
    write_checkpoint({"model": bands.state_dict()}, tmp_path / "bands.pth")
    with pytest.raises(InputError, match="bands.pth doesn't say how its images are normalised"):
        load_pooler(str(tmp_path / "bands.pth"), "", "cpu")
