"""The exponential moving average of the weights during training."""

from typing import Any

import torch
from detectron2.engine import HookBase
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage(AveragedModel):
    """A copy of a model, on its device, whose weights follow those of the model.

    The n-th update keeps min(decay, (1 + n) / (10 + n)) of the average, so that it spans about a tenth of a run until
    1 / (1 - decay) steps are less than that. The first update is a copy, and so is each of what isn't a weight.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model)
        self.decay = decay
        self.updates: int | None = None  # n_averaged, which only a wait gets from a GPU; None: not known yet

    def update_parameters(self, model: nn.Module) -> None:
        """Updates the average, without torch's look at n_averaged."""
        n = int(self.n_averaged) if self.updates is None else self.updates
        averages: list[torch.Tensor] = list(self.module.parameters())
        weights: list[torch.Tensor] = list(model.parameters())
        with torch.no_grad():
            if n == 0:
                torch._foreach_copy_(averages, weights)
            else:
                get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))(averages, weights, n)
            for average, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
                average.copy_(buffer)
            self.n_averaged += 1
        self.updates = n + 1

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        self.updates = None
        return super().load_state_dict(*args, **options)


def build_average(model: nn.Module, decay: float) -> WeightAverage | None:
    """Builds the average of the weights of `model`; None for a `decay` of 0."""
    return WeightAverage(model, decay) if decay else None


class AverageSavingHook(HookBase):
    """Writes the averaged weights at the end of training.

    It goes before the hook that writes model_final.pth, because that file marks a run as complete.
    """

    def after_step(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self.trainer.save_average()
