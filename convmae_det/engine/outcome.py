"""What a step came to in all processes: losses, gradient norm, time spent waiting for data, requests to end.

The processes share one tensor of numbers, on their device and by its own backend. It is copied to the host without
waiting for it, so that a GPU needn't be idle while the host reads it.
"""

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from .device_batches import move


class SharedNumbers:
    """The numbers of all processes in one step, on the device.

    A process contributes the mean of each loss over its micro-batches, whether it had that loss, what it waited for
    data and whether it asks to end. All name their losses alike: by the names of the first step, of all processes.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.names: list[str] = []

    def gather(self, losses: dict[str, torch.Tensor], data_time: float, ends: bool) -> torch.Tensor:
        """Gathers them, with one collective; the first call makes another one, to agree on the names.

        Args:
            losses: of this process, by name; scalars
            data_time: seconds
            ends: whether the process asks to end

        Returns:
            (processes, 2 · names + 2) float32: losses, which of them there are, seconds, requests. A loss that a
            process doesn't have is 0, or NaN if what it has instead isn't finite
        """
        self._agree_on_names(losses)
        absent = torch.zeros((), device=self.device)
        for name in losses.keys() - self.names:
            absent = absent + losses[name] * 0  # NaN if it isn't finite
        values = [losses.get(name, absent) for name in self.names]
        known = [float(name in losses) for name in self.names] + [data_time, float(ends)]
        numbers = torch.cat([torch.stack(values), move(torch.tensor(known), self.device)])
        if comm.get_world_size() == 1:
            return numbers[None]
        gathered = numbers.new_empty(comm.get_world_size(), len(numbers))
        dist.all_gather(list(gathered), numbers)  # into its rows
        return gathered

    def _agree_on_names(self, losses: Iterable[str]) -> None:
        if comm.get_world_size() == 1:
            self.names = list(losses)
        elif not self.names:
            self.names = list(dict.fromkeys(name for names in comm.all_gather(list(losses)) for name in names))


class Outcome:
    """The numbers of one step on their way to the host.

    Args:
        iteration: of the step
        names: of the losses
        shared: of :meth:`SharedNumbers.gather`
        losses: of this process, by name
        norm: of the gradients, the same in all processes
    """

    def __init__(
        self,
        iteration: int,
        names: list[str],
        shared: torch.Tensor,
        losses: dict[str, torch.Tensor],
        norm: torch.Tensor,
    ):
        self.iteration, self.names, self.own_names, self.processes = iteration, list(names), list(losses), len(shared)
        numbers = torch.cat([shared.flatten(), torch.stack([*losses.values(), norm.to(shared.dtype)])])
        self.numbers = numbers.to("cpu", non_blocking=True)  # pinned, if they come from a GPU
        # That of their GPU, which need not be the current one.
        self.ready = torch.cuda.current_stream(numbers.device).record_event() if numbers.is_cuda else None

    def read(self) -> None:
        """Waits until the numbers are there, and takes them."""
        if self.ready is not None:
            self.ready.synchronize()
        numbers = self.numbers.tolist()
        width, count = 2 * len(self.names) + 2, len(self.names)
        rows = [numbers[start : start + width] for start in range(0, self.processes * width, width)]
        *own, self.norm = numbers[self.processes * width :]
        self.own_losses = dict(zip(self.own_names, own, strict=True))
        values, present = [row[:count] for row in rows], [row[count : 2 * count] for row in rows]
        self.losses_are_finite = all(math.isfinite(value) for row in values for value in row)
        self.losses = {
            name: sum(column) / sum(there)
            for name, column, there in zip(
                self.names, zip(*values, strict=True), zip(*present, strict=True), strict=True
            )
            if any(there)
        }
        self.own_data_time, self.data_time = rows[comm.get_rank()][-2], max(row[-2] for row in rows)
        self.ends = any(row[-1] for row in rows)

    def write_metrics(self) -> None:
        """Writes losses, their total, the gradient norm and `data_time` to the event storage of the main process."""
        if not comm.is_main_process():
            return
        scalars = self.losses if len(self.losses) > 1 else {}
        times = {"data_time": self.data_time, "rank_data_time": self.own_data_time}
        scalars = times | {"total_loss": sum(self.losses.values())} | scalars
        if math.isfinite(self.norm):  # else the update was skipped
            scalars["grad_norm"] = self.norm
        for name, value in scalars.items():
            get_event_storage().put_scalar(name, value, cur_iter=self.iteration)
