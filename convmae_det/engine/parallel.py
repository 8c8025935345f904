"""A model that several processes train together."""

import math

import torch
import torch.distributed as dist
from detectron2.engine import create_ddp_model
from detectron2.utils import comm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ..precision import is_gpu
from .step import Batch, compute_losses


class LossModel(nn.Module):
    """A model for DistributedDataParallel, whose processes all take part in a backward pass, or none.

    Where the model of one process gives up, all its parameters get a gradient, NaN.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        losses = compute_losses(self.model, batch)
        if any(loss.requires_grad for loss in losses.values()):
            return losses
        touched = sum(p.sum() for p in self.model.parameters() if p.requires_grad)
        return {name: loss + touched * math.nan for name, loss in losses.items()}


def parallelise(model: nn.Module, device: str, static_graph: bool) -> nn.Module:
    """Wraps the model in DistributedDataParallel if there are several processes; its gradients are the buffers sent.

    Args:
        model: on its device
        device: of each process
        static_graph: whether each pass runs the same operations, all with gradients to share
    """
    devices = {} if is_gpu(device) else {"device_ids": None}
    wrapped = LossModel(model) if comm.get_world_size() > 1 else model
    buckets = {"gradient_as_bucket_view": True, "static_graph": static_graph}
    parallel = create_ddp_model(wrapped, **buckets, **devices)
    if isinstance(parallel, DistributedDataParallel):
        parallel.broadcast_buffers = False  # in each pass; the argument of this name is deprecated since PyTorch 2.13
    return parallel


def share_norm_statistics(model: nn.Module) -> None:
    """Gives all processes the statistics of batch norms that the main one has, and checkpoints hold."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms if comm.get_world_size() > 1 else ():
        for statistic in norm.buffers():
            dist.broadcast(statistic, 0)
