"""Nothing of ours makes the host wait for a GPU: in pretraining, in a detector's step, in the backbone's inference.

What waits in Detectron2's heads, which work on lists of boxes of any length, is named by file and line if a test fails.
"""

import pytest
import torch
from detectron2.utils.events import EventStorage
from reference.host_waits import HostWaits, list_waits
from reference.small import annotated_image, autoencoder_cfg, detector_cfg, randomise

from convmae_det.inference.model import build_model


def step(model, batch) -> None:
    with EventStorage():
        sum(model(batch).values()).backward()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("MODEL.MAE.COMPLEMENTARY_MASKS", True),
        ("MODEL.MAE.MASKED_CONV", False),
        ("MODEL.MAE.MASKING", "random"),
        ("MODEL.CONVMAE.ACTIVATION_CHECKPOINT", True),
        ("MODEL.CONVMAE.DROP_PATH_RATE", 0.2),
    ],
    ids=str,
)
def test_pretraining_waits_for_nothing(options):
    model = build_model(autoencoder_cfg(*options)).train()
    found = list_waits(lambda: step(model, {"images": torch.zeros(2, 3, 64, 64, dtype=torch.uint8)}))
    assert not found.ours and not found.theirs, found


@pytest.mark.parametrize("relative_position", ["shared", "decomposed", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_of_a_detector_only_detectron2_waits(relative_position, training):
    model = randomise(build_model(detector_cfg("MODEL.CONVMAE.RELATIVE_POSITION", relative_position))).train(training)
    batch = [annotated_image(), annotated_image(objects=3)]
    with torch.set_grad_enabled(training):
        found = list_waits(lambda: step(model, batch) if training else model(batch))
    assert not found.ours, found
    assert found.theirs  # Detectron2 chooses proposals by their values


@pytest.mark.parametrize("relative_position", ["shared", "blocks", "decomposed", "none"])
def test_the_backbone_waits_for_nothing(relative_position):
    model = build_model(detector_cfg("MODEL.CONVMAE.RELATIVE_POSITION", relative_position)).eval()
    with torch.no_grad():
        found = list_waits(lambda: model.backbone(torch.zeros(1, 3, 64, 96)))
    assert not found.ours and not found.theirs, found


@pytest.mark.parametrize(
    ("function", "waits"),
    [
        (lambda x: x.item(), True),
        (lambda x: bool(x > 0), True),
        (lambda x: x.expand(3)[torch.tensor([True, False, True])], True),
        (lambda x: x.expand(3)[torch.tensor([0, 2])], False),
        (lambda x: x.expand(3).repeat_interleave(2), False),
        (lambda x: x.expand(2).repeat_interleave(torch.tensor([1, 2])), True),
        (lambda x: x.expand(3).nonzero(), True),
        (lambda x: x.expand(3).sort().values.cumsum(0), False),
    ],
)
def test_what_waits_is_found(function, waits):
    with HostWaits() as found:
        function(torch.ones(()))
    assert bool(found.theirs) == waits
