"""docs/architecture.md names the files that an image passes, in order: seen by running."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from reference.small import autoencoder_cfg, randomise

import convmae_det
from convmae_det.data.detection.loader import build_test_loader
from convmae_det.data.pretraining.loader import build_pretraining_loader
from convmae_det.engine.step import TrainingStep
from convmae_det.evaluation import coco
from convmae_det.evaluation.coco import Evaluator
from convmae_det.inference.model import build_model
from convmae_det.ops import choice

PACKAGE = Path(convmae_det.__file__).parent
DOCUMENT = PACKAGE.parent / "docs" / "architecture.md"


LOGS = "logs.py"  # runs wherever an earlier test has begun a log


def files_run_by(function: Callable[[], object]) -> list[str]:
    """Files of the package in which `function` runs code, in the order of their first call."""
    seen: dict[str, None] = {}

    def note(frame, event, argument) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(f"{PACKAGE}{os.sep}"):
            seen.setdefault(Path(path).relative_to(PACKAGE).as_posix())

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return [path for path in seen if path != LOGS]


def files_named(title: str) -> list[str]:
    """Files in the paragraph below a title, in its order."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"### {title}\n")[1].split("\n\n")[0]
    return re.findall(r"`([\w/]+\.py)`", section)


def test_from_image_to_loss(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.zeros((80, 90, 3), dtype=np.uint8)).save(path)
    cfg = autoencoder_cfg("DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 1, "SEED", 0)
    model, images = build_model(cfg).train(), [{"file_name": str(path)}]
    batches = iter(build_pretraining_loader(cfg, dataset=images))
    step = TrainingStep(model, None, torch.optim.SGD(model.parameters(), 0.1))
    step.iter = 0
    files = files_run_by(lambda: step._forward(next(batches), 0))
    assert files_named("From an image to the loss of pretraining") == files and len(files) < 18


def test_from_image_to_average_precision(shapes_cfg, monkeypatch):
    """With a map of so many tokens that attention takes its biases from the table."""
    monkeypatch.setattr(choice, "read_overrides", lambda: {"attention": "table"})
    cfg = shapes_cfg()
    model = randomise(build_model(cfg)).eval()
    batches, evaluator = iter(build_test_loader(cfg, "shapes_val")), Evaluator("shapes_val", ("bbox", "segm"))
    truth = coco.read_ground_truth("shapes_val")  # the annotations come another way
    monkeypatch.setattr(coco, "read_ground_truth", lambda *arguments: truth)

    def evaluate() -> None:
        with torch.no_grad():
            for batch in batches:
                evaluator.process(batch, model(batch))
        evaluator.evaluate()

    files = files_run_by(evaluate)
    assert files_named("From an image to the AP of a detector") == files and len(files) < 37
