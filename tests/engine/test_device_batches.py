"""Batches arrive in their order, one copied ahead on a GPU; what goes wrong with one is raised when it is its turn."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from convmae_det.engine.device_batches import DeviceBatches, list_tensors, move

CPU = torch.device("cpu")


@pytest.fixture
def streams(monkeypatch):
    """Streams of a GPU that isn't there."""
    calls = []
    present = SimpleNamespace(wait_stream=lambda stream: calls.append("wait"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: present)

    def build(batches):
        found = DeviceBatches(batches, CPU)
        found.stream = object()
        return found

    build.calls = calls
    return build


def test_without_a_gpu_no_batch_is_taken_ahead():
    taken = []
    batches = DeviceBatches((taken.append(i) or i for i in range(3)), CPU)
    assert next(batches) == 0
    batches.start_next()
    assert taken == [0] and list(batches) == [1, 2]


def test_one_batch_is_taken_ahead(streams):
    taken = []
    batches = streams(taken.append(i) or {"images": torch.full((2,), i)} for i in range(3))
    assert next(batches)["images"].tolist() == [0, 0]
    batches.start_next()
    batches.start_next()
    assert taken == [0, 1]
    assert [batch["images"][0].item() for batch in batches] == [1, 2]
    assert streams.calls == ["wait"] * 3


def test_an_error_waits_for_its_turn(streams):
    def read():
        yield {"images": torch.zeros(1)}
        raise OSError("a.jpg is damaged")

    batches = streams(read())
    next(batches)
    batches.start_next()
    with pytest.raises(OSError, match="damaged"):
        next(batches)


def detector_batch():
    masks = BitMasks(torch.zeros(1, 4, 4, dtype=torch.bool))
    polygons = PolygonMasks([[[0.0, 0.0, 1.0, 0.0, 1.0, 1.0]]])
    fields = {"gt_boxes": Boxes(torch.ones(1, 4)), "gt_classes": torch.tensor([2]), "gt_masks": masks}
    instances = Instances((4, 4), **fields, outlines=polygons)
    return [
        {"image": torch.zeros(3, 4, 4, dtype=torch.uint8), "file_name": "a.jpg", "height": 4, "instances": instances}
    ]


def test_all_tensors_of_a_batch_are_moved_and_the_rest_stays():
    batch = detector_batch()
    (moved,) = move(batch, torch.device("meta"))
    assert len(list(list_tensors(batch))) == 4
    assert {tensor.device.type for tensor in list_tensors(moved)} == {"meta"}
    assert moved["image"].dtype == torch.uint8 and (moved["file_name"], moved["height"]) == ("a.jpg", 4)
    assert type(moved["instances"].gt_boxes) is Boxes and type(moved["instances"].gt_masks) is BitMasks
    assert moved["instances"].outlines is batch[0]["instances"].outlines
    assert moved["instances"].image_size == (4, 4)
