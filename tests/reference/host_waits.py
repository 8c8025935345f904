"""Operations for whose result a program has to wait while a GPU computes, found without one.

Such an operation gives the host a number, or tensors whose size depends on values: the queue of kernels runs empty.
Copies between host and device aren't found, and what Detectron2 computes on the CPU in any case is listed, too.
"""

import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import detectron2
import timm
import torch
import torchvision
from torch.utils._python_dispatch import TorchDispatchMode

import convmae_det
from convmae_det.ops import choice

WAITING = {  # by their names in torch.ops
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "nonzero_numpy", "masked_select", "bincount"),
    *("_unique2", "unique_dim", "unique_consecutive", "masked_scatter_backward"),
}
BY_MASK = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}  # where an index is a mask
LIBRARIES = (detectron2, torchvision, timm)
FOLDERS = {m.__name__: f"{Path(str(m.__file__)).parent}/" for m in (convmae_det, *LIBRARIES)}


class HostWaits(TorchDispatchMode):
    """Lists what would wait while it is active, as if tensors were on a GPU.

    Attributes:
        ours: the number of waits by file and line of convmae_det, where no library lies between it and the operation
        theirs: the others, by file and line of the library
    """

    def __init__(self) -> None:
        super().__init__()
        self.ours: Counter[str] = Counter()
        self.theirs: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"ours: {dict(self.ours)}, theirs: {dict(self.theirs)}"

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if waits(operation, args):
            ours, place = find_caller()
            (self.ours if ours else self.theirs)[f"{operation.overloadpacket.__name__} at {place}"] += 1
        return operation(*args, **(kwargs or {}))


def waits(operation, args: tuple) -> bool:
    name = operation.overloadpacket.__name__
    if name == "repeat_interleave":  # by a tensor of repeats, whose sum is the size
        return operation._overloadname == "Tensor"
    masks = (torch.bool, torch.uint8)
    by_mask = name in BY_MASK and any(index is not None and index.dtype in masks for index in args[1])
    return name in WAITING or by_mask


def find_caller() -> tuple[bool, str]:
    """Whether the innermost caller among convmae_det and LIBRARIES is ours, and its file and line."""
    for frame in reversed(traceback.extract_stack()):
        for name, folder in FOLDERS.items():
            if frame.filename.startswith(folder):
                return name == "convmae_det", f"{name}/{frame.filename.removeprefix(folder)}:{frame.lineno}"
    return False, "the backward pass of what waits above"  # no code in Python


def list_waits(function: Callable[[], object]) -> HostWaits:
    """What waits in `function`, which runs in the forms of a GPU."""
    with choice.simulate_gpu(), HostWaits() as found:
        function()
    return found
