"""Masks pasted piece by piece are, to the pixel, those that Detectron2 pastes at once."""

import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling import PanopticFPN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as run_lengths
from reference.small import detector_cfg

from convmae_det.data.run_length_masks import RunLengthMasks
from convmae_det.inference import pasting
from convmae_det.inference.model import build_model
from convmae_det.inference.pasting import RegionMasks, paste_masks


@st.composite
def regions(draw):
    """Masks, boxes inside the image, of any size down to a fraction of a pixel, and the image's size."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    count, side = draw(st.integers(0, 12)), draw(st.sampled_from([1, 2, 7, 28]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    masks = torch.rand(count, side, side, generator=generator)
    masks[torch.rand(masks.shape, generator=generator) < 0.3] = draw(st.sampled_from([0.0, 0.5, 1.0]))
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
    corners[:, 1] += draw(st.sampled_from([1e-3, 0.5, 100.0]))
    boxes = Boxes(corners.reshape(-1, 4))
    boxes.clip((height, width))
    kept = boxes.nonempty()
    return masks[kept], boxes.tensor[kept], (height, width)


@given(regions(), st.sampled_from([1, 300, 2**20]))
@settings(deadline=None, max_examples=60)
def test_pixels_are_those_of_detectron2(drawn, piece):
    masks, boxes, size = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pasting, "PIECE", piece)
        pasted = paste_masks(masks, boxes, size, 0.5)
    expected = paste_masks_in_image(masks, boxes, size, 0.5).bool()
    assert pasted.shape == expected.shape and torch.equal(pasted.to_tensor(), expected)
    for found, mask in zip(pasted.to_coco(), expected.numpy(), strict=True):
        encoded = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert found["size"] == encoded["size"] and found["counts"] == encoded["counts"].decode()


def test_postprocessing_of_detectron2_gives_run_lengths():
    boxes = torch.tensor([[1.0, 2, 30, 40], [5, 5, 5, 9], [0, 0, 50, 60]])  # the second has no area
    generator = torch.Generator().manual_seed(0)
    fields = {"pred_boxes": Boxes(boxes), "scores": torch.tensor([0.9, 0.8, 0.7])}
    masks = torch.rand(3, 1, 28, 28, generator=generator)

    def postprocess(masks):
        copied = {"pred_boxes": fields["pred_boxes"].clone(), "scores": fields["scores"]}
        return detector_postprocess(Instances((60, 50), **copied, pred_masks=masks), 120, 90)

    found, expected = postprocess(RegionMasks(masks[:, 0])), postprocess(masks)
    assert len(found) == 2 and torch.equal(found.pred_masks.to_tensor(), expected.pred_masks)


def test_a_panoptic_fpn_gives_the_segments_of_detectron2_and_run_lengths():
    keys = ("MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    torch.manual_seed(0)
    model = build_model(detector_cfg(*keys)).eval()
    model.combine_instances_score_thresh, model.combine_stuff_area_thresh = 0.0, 5
    image = {"image": torch.randint(0, 256, (3, 64, 48), dtype=torch.uint8)}
    inputs = [image | {"height": 90, "width": 71}, image]
    with torch.no_grad():
        found, expected = model(inputs), PanopticFPN.inference(model, inputs)
    assert any(segment["isthing"] for _, listed in (result["panoptic_seg"] for result in found) for segment in listed)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours["panoptic_seg"][0], theirs["panoptic_seg"][0])
        assert ours["panoptic_seg"][1] == theirs["panoptic_seg"][1]
        assert torch.equal(ours["sem_seg"], theirs["sem_seg"])
        masks = ours["instances"].pred_masks
        assert isinstance(masks, RunLengthMasks) and torch.equal(masks.to_tensor(), theirs["instances"].pred_masks)
        assert torch.equal(ours["instances"].scores, theirs["instances"].scores)
