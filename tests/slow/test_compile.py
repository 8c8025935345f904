"""MODEL.COMPILE gives what the plain model gives, from the compiler itself."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from reference.small import annotated_image, assert_near, autoencoder_cfg, detector_cfg, gradients

from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.pretraining import PretrainingTrainer

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "trainer, cfg", [(PretrainingTrainer, autoencoder_cfg()), (DetectionTrainer, detector_cfg())], ids=["mae", "rcnn"]
)
def test_losses_and_gradients(trainer, cfg):
    plain = build_model(cfg).train()
    cfg.MODEL.COMPILE = True
    compiled = trainer.build_model(cfg).train()
    compiled.load_state_dict(plain.state_dict())
    results = []
    for model in (plain, compiled):
        torch.manual_seed(0)
        with EventStorage():
            losses = model([annotated_image(), annotated_image(objects=3)])
        sum(losses.values()).backward()
        results.append(({name: loss.detach() for name, loss in losses.items()}, gradients(model)))
    (losses, grads), (compiled_losses, compiled_grads) = results
    assert_near(compiled_losses, losses, 1e-5)
    assert_near(compiled_grads, grads, 1e-4)
