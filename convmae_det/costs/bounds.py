"""Bounds of a network's speed on a card that isn't at hand, from counts.

Operations at the card's rate are one bound, bytes at its bandwidth the other, and a pass takes at least the longer one.
Operations are those of `costs.network`, a backward pass taken for two forward. Bytes are those that kernels read and
write, each by itself and not compiled (`costs.gpu_step`), so that what stays in a cache counts, too; of a detector they
are its backbone's, because its heads' depend on what is found.
"""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import nn

from ..config.architectures import has_backbone, is_classifier
from ..errors import InputError
from .cards import Card
from .gpu_step import Counts, count_step, list_tensors
from .network import Pass, Workload, check_sizes, choose_default_sizes, count_parameters

WEIGHT = 4  # bytes a parameter
STATE = 4 + 8  # bytes beside it for one that is trained: gradient, AdamW's two moments
UPDATE = 16 + 12  # bytes that AdamW reads and writes for a parameter


def compute_bounds(workload: Workload, card: Card, sizes: Sequence[int] = ()) -> dict:
    """Counts a network's passes at several image sizes, and divides by what a card does in a second.

    Args:
        workload: the network and what it does; its device doesn't matter
        card: whose bounds are computed
        sizes: sides of images in pixels; empty: the configuration's own

    Returns:
        What was asked for; and "sizes": for each "size" "operations" and "bytes" of a pass over the batch, "held" bytes
        (weights; in training also gradients, optimizer and what the backward pass needs), "seconds_of_operations",
        "seconds_of_bytes", and "images_per_second" at the longer of both.

    Raises:
        InputError: a size that can't be used; a classifier, or adapters, which can't be built without values.
    """
    if is_classifier(workload.cfg):
        raise InputError(f"--gpu counts pretraining and detectors, but {workload.config_file} describes a classifier")
    if workload.cfg.SOLVER.LORA_RANK:
        raise InputError("--gpu counts no adapters, but SOLVER.LORA_RANK is set: set it to 0, or leave out --gpu")
    sizes = sorted(set(sizes or choose_default_sizes(workload.cfg)[-1:]))
    check_sizes(workload.cfg, sizes)
    return {
        "config_file": workload.config_file,
        "card": str(card),
        "memory": card.memory,
        "train": workload.train,
        "batch_size": workload.batch_size,
        "sizes": [compute_bound(count_pass(workload, size), card, workload.batch_size) for size in sizes],
    }


def compute_bound(counted: dict, card: Card, images: int) -> dict:
    """Adds to the counts of a pass over so many images what they come to on a card."""
    seconds = counted["operations"] / card.rate, counted["bytes"] / card.bandwidth
    return counted | {
        "seconds_of_operations": seconds[0],
        "seconds_of_bytes": seconds[1],
        "images_per_second": images / max(seconds),
    }


def count_pass(workload: Workload, size: int) -> dict:
    """Counts the operations and bytes of a forward pass or optimizer step, and the bytes that it holds."""
    run = Pass(workload.cfg, size, 1, workload.train)
    operations = run.count_operations().total() * workload.batch_size
    parameters = count_parameters(run.model).total()
    trained = sum(p.numel() for p in run.model.parameters() if p.requires_grad) if workload.train else 0
    counts = count_on_gpu(workload.cfg, size, workload.batch_size, workload.train)
    return {
        "size": size,
        "operations": operations * (3 if workload.train else 1),
        "bytes": counts.moved.total() + UPDATE * trained,
        "held": counts.kept + WEIGHT * parameters + STATE * trained,
    }


def count_on_gpu(cfg: CfgNode, size: int, images: int, train: bool) -> Counts:
    """Counts what a GPU would move and keep for images of size×size pixels, in a detector's backbone or all of it."""
    shape = images, len(cfg.MODEL.PIXEL_MEAN), size, size

    def build() -> nn.Module:
        return build_backbone(cfg) if has_backbone(cfg) else META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)

    def run(model: nn.Module) -> torch.Tensor:
        batch = {"images": torch.empty(shape, dtype=torch.uint8)}
        results = list_tensors(model(torch.empty(shape) if has_backbone(cfg) else batch))
        return torch.stack([result.float().mean() for result in results]).sum()

    return count_step(build, run, train)
