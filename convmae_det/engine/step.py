"""One optimizer step: gradients of one or several micro-batches, in single or mixed precision."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from ..errors import TrainingError


class TrainingStep(SimpleTrainer):
    """Detectron2's SimpleTrainer with accumulation, mixed precision on any device, and a stop before bad updates.

    Each call of :meth:`run_step` takes `accumulation_steps` batches from the loader, each a list of dicts of which the
    model makes a dict of losses, and makes one update with the mean of their gradients. What is drawn at random inside
    the model is a function of seed, iteration, micro-batch and process, not of what was drawn before.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict]] | None,
        optimizer: torch.optim.Optimizer,
        *,
        accumulation_steps: int = 1,
        autocast_dtype: torch.dtype | None = None,
        clip_gradients: Callable[[list[nn.Parameter]], None] | None = None,
        seed: int = 0,
    ):
        """`autocast_dtype` None: no mixed precision; float16: with loss scaling, on a GPU. The loader may be given
        later, as `data_loader`."""
        super().__init__(model, data_loader, optimizer)
        self.accumulation_steps = accumulation_steps
        self.autocast_dtype = autocast_dtype
        self.clip_gradients = clip_gradients
        self.seed = seed
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=autocast_dtype == torch.float16)

    def run_step(self) -> None:
        """Raises TrainingError, on every process and before the weights change, where a loss or gradient of any
        process is not finite."""
        assert self.model.training, "the model was left in evaluation mode"
        self.optimizer.zero_grad(set_to_none=True)
        batches, losses, data_time = [], [], 0.0
        for part in range(self.accumulation_steps):
            start = time.perf_counter()
            batches.append(next(self._data_loader_iter))
            data_time += time.perf_counter() - start
            losses.append(self._backward(batches[-1], part))
        means = {name: torch.stack([loss[name] for loss in losses]).mean() for name in losses[0]}
        self.after_backward()

        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters]).item()
        self._require_finite(means, norm, batches)
        if self.clip_gradients:
            self.clip_gradients(parameters)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._write_metrics(means, data_time)
        if math.isfinite(norm):  # loss scaling overflows now and then, and skips that update
            get_event_storage().put_scalar("grad_norm", norm)

    def _backward(self, batch: list[dict], part: int) -> dict[str, torch.Tensor]:
        """Adds the gradients of micro-batch number `part`; returns its losses, detached."""
        entropy = [self.seed, self.iter, part, comm.get_rank()]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
        last = part == self.accumulation_steps - 1
        parallel = isinstance(self.model, DistributedDataParallel)
        with contextlib.nullcontext() if last or not parallel else self.model.no_sync():
            enabled = self.autocast_dtype is not None
            with torch.autocast(self.device.type, self.autocast_dtype, enabled=enabled):
                losses = self.model(batch)
                total = sum(losses.values()) / self.accumulation_steps
            self.scaler.scale(total).backward()
        return {name: loss.detach().float() for name, loss in losses.items()}

    def _require_finite(self, losses: dict[str, torch.Tensor], norm: float, batches: list[list[dict]]) -> None:
        losses = {name: loss.item() for name, loss in losses.items()}
        finite = math.isfinite(sum(losses.values())) and (math.isfinite(norm) or self.scaler.is_enabled())
        report = None
        if not finite:
            values = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
            images = ", ".join(str(image.get("file_name", "without a name")) for batch in batches for image in batch)
            report = f"{values}, gradient norm {norm:.4g}; images {images}"
        reports = [report for report in comm.all_gather(report) if report]
        if reports:
            rate = max(group["lr"] for group in self.optimizer.param_groups)
            raise TrainingError(
                f"the loss or its gradient is not finite at iteration {self.iter}, learning rate {rate:.4g}: "
                f"{'; '.join(reports)}. This step was not taken, so the last checkpoint is good: look at these images, "
                "then --resume with a lower SOLVER.BASE_LR or with SOLVER.CLIP_GRADIENTS.ENABLED True"
            )

    def state_dict(self) -> dict:
        return super().state_dict() | {"scaler": self.scaler.state_dict(), "seed": self.seed}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.seed = state_dict["seed"]
        if state_dict["scaler"]:  # empty after training in another precision
            self.scaler.load_state_dict(state_dict["scaler"])
