"""Finds the device that MODEL.DEVICE stands for on this machine."""

import os
import re
import sys

import torch

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
