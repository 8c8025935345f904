"""Masks of many objects are those that the mask head gives at once."""

import pytest
import torch
from reference.small import detector_cfg, randomise

from convmae_det.inference import mask_pieces
from convmae_det.inference.model import build_model


@pytest.mark.parametrize("objects", [1, 7])
def test_pieces_change_nothing(monkeypatch, objects):
    cfg = detector_cfg("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    torch.manual_seed(0)
    model = randomise(build_model(cfg)).eval()
    generator = torch.Generator().manual_seed(0)
    sizes = ((64, 64), (40, 56))
    batch = [{"image": torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)} for size in sizes]
    with torch.no_grad():
        whole = [output["instances"] for output in model(batch)]
        monkeypatch.setattr(mask_pieces, "OBJECTS", objects)
        parts = [output["instances"] for output in model(batch)]
    assert min(map(len, whole)) > objects
    for found, expected in zip(parts, whole, strict=True):
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores) and len(found) == len(expected)
        assert (found.pred_masks != expected.pred_masks).float().mean() < 1e-4
