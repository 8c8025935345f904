"""A head gives the same for its regions in the company of empty ones."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.box_head import FastRCNNConvFCHead
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.utils.events import EventStorage
from hypothesis import given
from hypothesis import strategies as st
from reference.small import annotated_image, assert_near, detector_cfg, gradients, randomise
from torch.testing import assert_close

from convmae_det.inference.model import build_model
from convmae_det.ops import choice
from convmae_det.ops.layers import pad_regions

SHAPE = ShapeSpec(channels=6, height=4, width=4)
BUILD = {
    "mask": lambda norm: MaskRCNNConvUpsampleHead(SHAPE, num_classes=3, conv_dims=[8, 8, 8], conv_norm=norm),
    "box": lambda norm: FastRCNNConvFCHead(SHAPE, conv_dims=[8], fc_dims=[16], conv_norm=norm),
    "fully connected": lambda norm: FastRCNNConvFCHead(SHAPE, conv_dims=[], fc_dims=[16, 8]),
}


def run(head, features):
    return head.layers(features) if isinstance(head, MaskRCNNConvUpsampleHead) else head(features)


def counts_seen(head) -> list[int]:
    """Filled with the number of regions that a layer inside the head sees in each pass."""
    seen = []
    list(head.children())[1].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    return seen


@given(count=st.integers(0, 5000))
def test_numbers_of_regions_are_few_and_not_much_larger(count):
    padded = choice.choose_padded_regions(torch.zeros(count, 1))
    assert count <= padded <= max(count, 1.5 * (count - 1))
    assert choice.choose_padded_regions(torch.zeros(padded, 1)) == padded
    assert (
        len({choice.choose_padded_regions(torch.zeros(n, 1)) for n in range(1, 1025)}) == 20
    )  # powers of two, and half as many more


def test_elsewhere_a_head_sees_the_regions_that_there_are():
    assert choice.choose_padded_regions(torch.zeros(17, 1, device="meta")) == 17


@pytest.mark.parametrize("norm", ["", "LN"])
@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("count", [0, 1, 5, 17])
def test_results_and_gradients_are_those_of_the_head_alone(name, norm, count):
    head = randomise(BUILD[name](norm)).double()
    features, found = torch.randn(count, 6, 4, 4, dtype=torch.float64, requires_grad=True), []
    for pad in (False, True):
        if pad:
            pad_regions(head, (type(head),))
            seen = counts_seen(head)
        result = run(head, features)
        inputs = [features, *head.parameters()]
        found.append([result, *torch.autograd.grad(result.square().sum(), inputs)])
    assert seen == [choice.choose_padded_regions(features)]
    assert_close(*found)


def test_a_trace_serves_any_number_of_regions():
    head = BUILD["mask"]("LN").requires_grad_(False)
    pad_regions(head, (type(head),))
    few, many = torch.randn(5, 6, 4, 4), torch.randn(9, 6, 4, 4)
    traced = torch.jit.trace(lambda regions: head.layers(regions), few, check_trace=False)
    assert_close(traced(many), run(head, many))


def test_a_head_that_normalises_over_its_regions_is_left_alone():
    head = BUILD["mask"]("BN")
    pad_regions(head, (type(head),))
    seen = counts_seen(head)
    run(head, torch.randn(5, 6, 4, 4))
    assert seen == [5]


@pytest.mark.parametrize("heads", ["StandardROIHeads", "CascadeROIHeads"])
def test_a_detector_gives_the_same(force, heads):
    cfg = detector_cfg("MODEL.ROI_HEADS.NAME", heads, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    found = []
    for form in choice.FORMS["regions"]:
        force(regions=form)
        torch.manual_seed(0)
        model = build_model(cfg)
        torch.manual_seed(1)
        with EventStorage():
            losses = model([annotated_image(objects=3), annotated_image(objects=2)])
        sum(losses.values()).backward()
        with torch.no_grad():
            instances = model.eval()([annotated_image()])[0]["instances"]
        found.append({"scores": instances.scores, "boxes": instances.pred_boxes.tensor, **losses, **gradients(model)})
    assert_near(*found, tolerance=1e-4)
