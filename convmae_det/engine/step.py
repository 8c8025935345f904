"""One optimizer step: gradients of one or several micro-batches, in single or mixed precision."""

import contextlib
import functools
import logging
import math
import operator
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from ..checkpoint.fitting import Strictness
from ..checkpoint.loading import assign_weights
from ..checkpoint.weights import Weights
from ..errors import TrainingError
from ..precision import autocast
from .device_batches import DeviceBatches
from .hooks.average import WeightAverage
from .outcome import Outcome, SharedNumbers

logger = logging.getLogger(__name__)

Batch = list[dict] | dict[str, Any]  # Detectron2's, each image with its "file_name"; or tensors of all, "file_names"


class TrainingStep(SimpleTrainer):
    """Detectron2's SimpleTrainer with accumulation, mixed precision on any device, and a stop before bad updates.

    Each call of :meth:`run_step` takes `accumulation_steps` batches from the loader, from each of which the model
    computes a dict of losses, and makes one update with the mean of their gradients. Random draws inside the
    model are a function of seed, iteration, micro-batch and process, not of earlier draws.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Batch] | None,
        optimizer: torch.optim.Optimizer,
        *,
        accumulation_steps: int = 1,
        autocast_dtype: torch.dtype | None = None,
        clip_gradients: Callable[[list[nn.Parameter]], object] | None = None,
        average: WeightAverage | None = None,
        seed: int = 0,
    ):
        """Takes what a step needs; the loader may be set later, as `data_loader`.

        Args:
            model: in training mode; DistributedDataParallel or not
            data_loader: of micro-batches
            optimizer: of all trained parameters
            accumulation_steps: micro-batches in a step
            autocast_dtype: None: no mixed precision; float16: with loss scaling, on a GPU
            clip_gradients: changes the gradients of a list of parameters in place
            average: follows the weights
            seed: of the random draws in the model
        """
        super().__init__(model, data_loader, optimizer)
        self.accumulation_steps = accumulation_steps
        self.clip_gradients = clip_gradients
        self.average = average
        self.seed = seed
        self.device = next(model.parameters()).device
        self.autocast = autocast(self.device, autocast_dtype)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=autocast_dtype == torch.float16)
        # On a GPU the outcome of a step is read while the next one runs, if the optimizer's kernel can skip an update
        # and the next step doesn't depend on it, as it does where losses are scaled.
        skips = bool(optimizer.defaults.get("fused"))
        self.reads_late = self.device.type == "cuda" and skips and not self.scaler.is_enabled()
        self.shared = SharedNumbers(self.device)
        self.pending: tuple[Outcome, list[str], float] | None = None  # with the names of the images and the rate
        self.end_requested = False  # by this process; set from outside
        self._ends = False  # whether any process had asked to end when the last outcome was shared

    @property
    def _data_loader_iter(self) -> DeviceBatches:
        """Replaces SimpleTrainer's, which leaves batches on the host."""
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj: DeviceBatches | None = DeviceBatches(iter(self.data_loader), self.device)
        return self._data_loader_iter_obj

    def run_step(self) -> None:
        """Makes one optimizer step.

        Raises:
            TrainingError: in every process and before the weights change, where a loss, prediction or gradient of any
                process is not finite; of scaled gradients only once the loss scale, halved each time, is down to 1.
                Where the step is read late, the next step, or :meth:`settle`, raises it.
        """
        assert self.model.training, "the model was left in evaluation mode"
        self.optimizer.zero_grad(set_to_none=True)
        names, losses, data_time = self._compute_gradients()
        self.after_backward()
        shared = self.shared.gather(losses, data_time, self.end_requested)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        for parameter in parameters[:1]:  # no update from finite gradients if any loss, of any process, is not finite
            parameter.grad.add_((shared[:, : len(self.shared.names)] * 0).sum())
        self.scaler.unscale_(self.optimizer)
        norm = get_total_norm([p.grad for p in parameters])

        self.settle()
        outcome = Outcome(self.iter, self.shared.names, shared, losses, norm.to(self.device))
        self.pending = outcome, names, max(group["lr"] for group in self.optimizer.param_groups)
        if self.reads_late:
            self.optimizer.found_inf = 1 - norm.isfinite().float()  # the device itself skips the update
        else:
            self.settle()
        if self.clip_gradients:
            self.clip_gradients(parameters)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None and (self.reads_late or math.isfinite(outcome.norm)):  # else it was skipped
            self.average.update_parameters(self.model)

    def settle(self) -> None:
        """Waits for the outcome of the last step, if that hasn't been read, and writes its metrics.

        All processes call it together.

        Raises:
            TrainingError: see :meth:`run_step`.
        """
        if self.pending is None:
            return
        (outcome, names, rate), self.pending = self.pending, None
        outcome.read()
        self._ends = outcome.ends
        if not outcome.losses_are_finite:
            self._raise_divergence(outcome, outcome.own_losses, names, rate)
        scale = self.scaler.get_scale()  # the same in all processes, as gradients are; 1 without loss scaling
        if not math.isfinite(outcome.norm) and scale <= 1:
            # a larger scale may cause the overflow: the update is skipped, the scale halved
            at_scale = f" at loss scale {scale:g}" if self.scaler.is_enabled() else ""
            self._raise_divergence(outcome, {f"gradient norm{at_scale}": outcome.norm}, names, rate)
        outcome.write_metrics()

    @property
    def ends(self) -> bool:
        """Whether a process has asked to end, and all of them know."""
        return self._ends if comm.get_world_size() > 1 else self.end_requested

    def _compute_gradients(self) -> tuple[list[str], dict[str, torch.Tensor], float]:
        """Runs all micro-batches.

        Returns:
            the names of their images, the means of their losses, and the seconds spent waiting for them
        """
        names, losses, data_time = [], [], 0.0  # of batches nothing else is kept: they hold memory and open files
        for part in range(self.accumulation_steps):
            start = time.perf_counter()
            batch = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            names += list_names(batch)
            last = part == self.accumulation_steps - 1
            parallel = isinstance(self.model, DistributedDataParallel)
            with contextlib.nullcontext() if last or not parallel else self.model.no_sync():
                loss = self._forward(batch, part)
                losses.append({name: value.detach().float() for name, value in loss.items()})
                self._backward(loss)
            start = time.perf_counter()
            self._data_loader_iter.start_next()
            data_time += time.perf_counter() - start
        return names, compute_mean_losses(losses), data_time

    def _forward(self, batch: Batch, part: int) -> dict[str, torch.Tensor]:
        entropy = [self.seed, self.iter, part, comm.get_rank()]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
        with self.autocast:
            return compute_losses(self.model, batch)

    def _backward(self, losses: dict[str, torch.Tensor]) -> None:
        total = functools.reduce(operator.add, losses.values()) / self.accumulation_steps
        if total.requires_grad:
            self.scaler.scale(total).backward()

    def _raise_divergence(self, outcome: Outcome, values: dict[str, float], names: list[str], rate: float) -> None:
        """Raises an error with what the processes say of the step of `outcome`, of which `values` are this one's."""
        report = None
        if not all(math.isfinite(value) for value in values.values()):
            listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            report = f"{listed}; images {', '.join(names)}"
        reports = [report for report in comm.all_gather(report) if report]
        raise TrainingError(
            f"training diverged at iteration {outcome.iteration}, learning rate {rate:.4g}: {'; '.join(reports)}. The "
            "weights are unchanged and the last checkpoint is good: look at these images, then continue with "
            "--resume and a lower SOLVER.BASE_LR, or with SOLVER.CLIP_GRADIENTS.ENABLED True"
        )

    def state_dict(self) -> dict:
        state = super().state_dict() | {"scaler": self.scaler.state_dict(), "seed": self.seed}
        return state if self.average is None else state | {"average": self.average.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.seed = state_dict["seed"]
        if state_dict["scaler"]:  # empty after training in another precision
            self.scaler.load_state_dict(state_dict["scaler"])
        if self.average is not None and "average" in state_dict:
            weights = Weights.from_run("the average of the weights in the checkpoint", state_dict["average"])
            assign_weights(self.average, weights, Strictness.EXACT)
        elif self.average is not None:
            logger.warning(
                "The run had no SOLVER.EMA.DECAY so far: the average of the weights starts from their current values"
            )
            self.start_average()

    def start_average(self) -> None:
        """Copies the loaded model to the average, including the grids of its position tables."""
        if self.average is not None:
            self.average.module.load_state_dict(self.model.state_dict())


def compute_losses(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """Computes the losses of a batch; NaN alone, without gradients, where the model gives up."""
    try:
        return model(batch)
    except FloatingPointError:  # raised by Detectron2's RPN, which checks its proposals
        return {"predictions": torch.tensor(math.nan, device=next(model.parameters()).device)}


def list_names(batch: Batch) -> list[str]:
    """Lists the names of the images of a batch."""
    if isinstance(batch, dict):
        return batch["file_names"]
    return [str(image.get("file_name", "without a name")) for image in batch]


def compute_mean_losses(losses: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Computes the mean of each loss over those micro-batches that have it."""
    names = dict.fromkeys(name for loss in losses for name in loss)
    return {name: torch.stack([loss[name] for loss in losses if name in loss]).mean() for name in names}
