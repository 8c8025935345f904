"""Batches on the device of the model; for a GPU, the next one is copied while the present one is computed."""

from collections.abc import Iterator
from typing import Any

import torch
from detectron2.structures import BitMasks, Boxes, Instances


class DeviceBatches(Iterator):
    """Takes batches from readers and moves them to the device of the model.

    Without a GPU they stay as they are. With one, they are copied from pinned memory by a stream of its own, and
    :meth:`start_next`, called when a step's work is under way on the GPU, copies the next batch meanwhile.
    """

    def __init__(self, batches: Iterator, device: torch.device):
        self.batches, self.device = batches, device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.waiting: Any = None  # the next batch, or what went wrong with it

    def __next__(self) -> Any:
        if self.stream is None:
            return next(self.batches)
        self.start_next()
        batch, self.waiting = self.waiting, None
        if isinstance(batch, Exception):
            raise batch
        present = torch.cuda.current_stream(self.device)
        present.wait_stream(self.stream)
        for tensor in list_tensors(batch):
            if tensor.is_cuda:
                tensor.record_stream(present)  # its memory is not used again before the step has read it
        return batch

    def start_next(self) -> None:
        """Takes the next batch, if it isn't there, and starts to copy it. What goes wrong is raised by ``next``."""
        if self.stream is None or self.waiting is not None:
            return
        try:
            with torch.cuda.stream(self.stream):
                self.waiting = move(next(self.batches), self.device)
        except Exception as error:  # of the batch after this step, which may be the last
            self.waiting = error


def move(value: Any, device: torch.device) -> Any:
    """Copies tensors, such as those of a batch, to the device, from pinned memory, without waiting for the copies.

    Args:
        value: tensors, and Detectron2's instances, boxes and masks of pixels, in lists and dicts; polygons and all else
            stay as they are
        device: a GPU, or the CPU, where tensors stay as they are, too
    """
    match value:
        case torch.Tensor():
            pinned = value.pin_memory() if device.type == "cuda" and not value.is_cuda else value
            return pinned.to(device, non_blocking=True)
        case dict():
            return {name: move(entry, device) for name, entry in value.items()}
        case list():
            return [move(entry, device) for entry in value]
        case Boxes() | BitMasks():
            return type(value)(move(value.tensor, device))
        case Instances():
            fields = {name: move(entry, device) for name, entry in value.get_fields().items()}
            return Instances(value.image_size, **fields)
    return value


def list_tensors(value: Any) -> Iterator[torch.Tensor]:
    """Lists the tensors that :func:`move` moves."""
    match value:
        case torch.Tensor():
            yield value
        case dict():
            yield from (tensor for entry in value.values() for tensor in list_tensors(entry))
        case list():
            yield from (tensor for entry in value for tensor in list_tensors(entry))
        case Boxes() | BitMasks():
            yield value.tensor
        case Instances():
            yield from list_tensors(value.get_fields())
