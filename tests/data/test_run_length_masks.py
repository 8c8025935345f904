"""Masks in run lengths are the masks that they were made of, and pass as their tensor."""

import copy
import pickle

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as run_lengths

from convmae_det.data.run_length_masks import RunLengthMasks

MASKS = arrays(np.bool_, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9))


def pack(masks: np.ndarray) -> RunLengthMasks:
    return RunLengthMasks.from_masks(torch.from_numpy(masks), masks.shape[1:])


@pytest.fixture
def masks():
    return torch.from_numpy(np.random.default_rng(0).random((5, 6, 7)) < 0.4)


@given(MASKS)
def test_masks_come_back_from_every_form(drawn):
    packed = pack(drawn)
    assert np.array_equal(packed.to_tensor(), drawn) and packed.shape == drawn.shape
    assert all(np.array_equal(one, mask) for one, mask in zip(packed, drawn, strict=True))
    encoded = packed.to_coco()
    expected = run_lengths.encode(np.asfortranarray(drawn.transpose(1, 2, 0), dtype=np.uint8))
    assert [mask["counts"] for mask in encoded] == [mask["counts"].decode() for mask in expected]
    assert np.array_equal(RunLengthMasks.from_coco(encoded, packed.image_size), drawn)
    for number, mask in enumerate(drawn):
        part, top, left = packed.crop(number)
        whole = np.zeros_like(mask)
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
        assert np.array_equal(whole, mask) and part.size <= mask.size


@given(MASKS, st.data())
def test_some_are_selected_as_of_a_tensor(drawn, data):
    packed, plain = pack(drawn), torch.from_numpy(drawn)
    number = data.draw(st.integers(-len(drawn), len(drawn) - 1))
    chosen = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(drawn), max_size=len(drawn))))
    for item in (number, np.int64(number), torch.tensor(number), (slice(None), 0), (number, 0, 0), ...):
        assert torch.equal(packed[item], plain[item])
    for item in (chosen, chosen.tolist(), chosen.nonzero()[:, 0], slice(number, None), slice(None, None, 2), []):
        assert isinstance(packed[item], RunLengthMasks) and torch.equal(packed[item].to_tensor(), plain[item])
    with pytest.raises(IndexError):
        packed[len(drawn)]
    with pytest.raises(IndexError):
        packed[torch.ones(len(drawn) + 1, dtype=torch.bool)]


def test_they_pass_as_their_tensor(masks):
    packed = pack(masks.numpy())
    assert packed.dtype == torch.bool and packed.device.type == "cpu" and packed.ndim == masks.ndim
    for compute in (
        lambda these: these.sum((1, 2)),
        lambda these: these.float().mean(),
        lambda these: torch.stack([these, these]).any(0),
        lambda these: torch.cat((these, masks)),
        lambda these: these & masks,
        lambda these: masks | these,
        lambda these: ~these,
        lambda these: these != masks.flip(0),
        lambda these: these == these,
        lambda these: these.to(torch.uint8),
        lambda these: torch.from_numpy(np.asarray(these)),
        lambda these: torch.from_numpy(these.numpy()),
        lambda these: these.cpu(),
        lambda these: torch.tensor(these.size(0)),
    ):
        assert torch.equal(compute(packed), compute(masks))
    assert torch.equal(packed, masks) and np.array_equal(np.array(packed, dtype=np.float32), masks.float())


def test_they_are_a_field_of_instances(masks):
    packed = pack(masks.numpy())
    instances = Instances((6, 7), pred_boxes=Boxes(torch.rand(5, 4)), pred_masks=packed)
    assert instances.to("cuda" if torch.cuda.is_available() else "cpu").pred_masks is packed
    assert torch.equal(instances[torch.tensor([3, 1])].pred_masks.to_tensor(), masks[[3, 1]])
    assert torch.equal(Instances.cat([instances[:2], instances[2:]]).pred_masks.to_tensor(), masks)
    assert "RunLengthMasks(5 of 7×6 pixels)" in str(instances) and not hasattr(packed, "_repr_html_")


@pytest.mark.parametrize("repeat", [copy.copy, copy.deepcopy, lambda these: pickle.loads(pickle.dumps(these))])
def test_they_are_copied_and_saved(masks, repeat):
    assert torch.equal(repeat(pack(masks.numpy())).to_tensor(), masks)


def test_none_at_all():
    packed = RunLengthMasks([], (3, 4))
    assert packed.to_tensor().shape == (0, 3, 4) and packed.to_coco() == [] and len(packed[[]]) == 0
    assert not packed.any() and list(packed) == []


def test_operators_are_those_of_the_tensor(masks):
    drawn, masks = masks, RunLengthMasks.from_masks(masks, masks.shape[1:])
    for found, expected in (
        (masks * 255, drawn * 255),
        (255 * masks, 255 * drawn),
        (masks + 1, drawn + 1),
        (1 - masks.float(), 1 - drawn.float()),
        (masks / 2, drawn / 2),
        (masks > 0, drawn > 0),
        (masks ^ masks, drawn ^ drawn),
        (masks & drawn, drawn & drawn),
        (~masks, ~drawn),
        (masks == masks, drawn == drawn),
    ):
        assert torch.equal(found, expected)
    assert len({masks, masks}) == 1
