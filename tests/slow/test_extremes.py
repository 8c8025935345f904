"""Losses and gradients stay finite for images without objects or with 1,000, of 32 to 4,000 pixels, wide or tall."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from PIL import Image
from reference.small import annotated_image, autoencoder_cfg, detector_cfg

from convmae_det.data.pretraining.mapper import PretrainingMapper
from convmae_det.engine.step import TrainingStep

BATCHES = {
    "no objects": [(64, 64, 0), (64, 64, 0)],
    "1,000 objects": [(64, 64, 1000), (64, 64, 0)],
    "32 pixels": [(32, 32, 1)],
    "1:50": [(32, 1600, 3), (1600, 32, 3)],
}
LARGE = {
    "4,000×800 pixels": [(4000, 800, 2)],
    "80×4,000 pixels": [(80, 4000, 2)],
    "4,000×4,000 pixels": [(4000, 4000, 2)],  # global attention of 62,500 tokens to one another
}
CASES = [*BATCHES, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_the_detector(name):
    shapes = (BATCHES | LARGE)[name]
    model = build_model(detector_cfg())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batch = [annotated_image(height, width, objects) for height, width, objects in shapes]
    with EventStorage() as storage:
        step = TrainingStep(model, iter([batch]), optimizer)
        step.iter = 0
        step.run_step()  # raises unless all is finite
        print(f"\n{name}: total loss {storage.latest()['total_loss'][0]:.3g}")
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_step_of_pretraining_on_images_of_all_sizes(tmp_path):
    cfg, batch = autoencoder_cfg(), []
    for height, width in [(1, 1), (1, 50), (32, 32), (32, 1600), (4000, 80), (4000, 4000)]:
        path = tmp_path / f"{height}x{width}.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(path)
        batch.append(PretrainingMapper(cfg)({"file_name": str(path)}))
    model = build_model(cfg)
    with EventStorage():
        step = TrainingStep(model, iter([batch]), torch.optim.AdamW(model.parameters()))
        step.iter = 0
        step.run_step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("value", [0, 255])
def test_a_step_of_pretraining_on_plain_images(value):
    """Patches without any variance, by which targets are divided."""
    model = build_model(autoencoder_cfg())
    batch = [{"image": torch.full((3, 64, 64), value, dtype=torch.uint8)}] * 2
    with EventStorage():
        step = TrainingStep(model, iter([batch]), torch.optim.AdamW(model.parameters()))
        step.iter = 0
        step.run_step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_float16_overflow_skips_the_step_and_lowers_the_scale():
    model = build_model(autoencoder_cfg())
    before = {name: p.clone() for name, p in model.named_parameters()}
    batch = [{"image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)}] * 2
    with EventStorage():
        step = TrainingStep(
            model, iter([batch] * 2), torch.optim.AdamW(model.parameters()), autocast_dtype=torch.float16
        )
        step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
        step.iter = 0
        step.run_step()
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
        assert step.scaler.get_scale() == 2.0**39
        step.scaler.update(2.0**8)
        step.run_step()
    assert all(p.isfinite().all() for p in model.parameters())
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
