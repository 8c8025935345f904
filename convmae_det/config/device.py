"""Finds the device that MODEL.DEVICE stands for on this machine, also for one of several processes."""

import os
import re
import sys

import torch

from ..errors import InputError
from .checks.rules import require


def find_available_device(device: str) -> str:
    """Returns MODEL.DEVICE as a device that this machine has: cpu, cuda or cuda:N.

    If it is the CPU because there is no GPU, one line on stderr says so.

    Raises:
        InputError: an unknown device, or a GPU beyond the last.
    """
    known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", device)
    require(known, "MODEL.DEVICE", device, "be auto, cuda, cuda:0 (one of several GPUs) or cpu")
    gpus = count_gpus()
    if device == "cpu":
        return device
    if not gpus:
        if os.environ.get("RANK", "0") == "0":
            print("No GPU that PyTorch can use was found: this runs on the CPU.", file=sys.stderr)
        return "cpu"
    exists = int(device.partition(":")[2] or 0) < gpus
    require(exists, "MODEL.DEVICE", device, f"name one of the {gpus} GPUs of this machine, counted from 0")
    return "cuda" if device == "auto" else device


def count_gpus() -> int:
    """Counts the GPUs that PyTorch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def is_started_by_torchrun() -> bool:
    return {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= os.environ.keys()


def claim_gpu(device: str) -> None:
    """Makes the GPU that is this process's own the current one, where torchrun has started it for a GPU.

    Args:
        device: MODEL.DEVICE, or what :func:`find_available_device` makes of it

    Raises:
        InputError: there is no GPU for each process.
    """
    gpus = count_gpus()
    if device == "cpu" or not gpus or not is_started_by_torchrun():
        return
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    if local_size > gpus:
        raise InputError(
            f"torchrun starts {local_size} processes here, but there are {gpus} GPUs: lower --nproc-per-node, or set "
            "MODEL.DEVICE cpu"
        )
    must = f"be cuda where torchrun starts {local_size} processes, each for a GPU of its own"
    require(local_size == 1 or device in ("auto", "cuda"), "MODEL.DEVICE", device, must)
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
