"""The tiny detector learns 8 real images by heart: annotations, crops, masks and evaluation fit together."""

import os

import pytest

from convmae_det.engine.detection import DetectionTrainer

pytestmark = pytest.mark.slow


def test_tiny_detector_overfits_eight_images(overfitting_cfg):
    overfitting_cfg.SOLVER.MAX_ITER = int(os.environ.get("OVERFIT_ITERATIONS", 400))
    overfitting_cfg.TEST.EVAL_PERIOD = 100
    trainer = DetectionTrainer(overfitting_cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert results["bbox"]["AP50"] >= 90, results
    assert results["segm"]["AP50"] >= 70, results
