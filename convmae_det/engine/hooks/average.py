"""The exponential moving average of the weights during training."""

from typing import Any

import torch
from detectron2.engine import HookBase
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def build_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """Builds a copy of `model`, on its device, whose weights follow those of `model`; None for a `decay` of 0.

    The n-th update keeps min(decay, (1 + n) / (10 + n)) of the average, so that it spans about a tenth of a run until
    1 / (1 - decay) steps are less than that. The first update is a copy, and so is each of what isn't a weight.
    """

    def update(averages: Any, weights: Any, count: torch.Tensor | int) -> None:
        n = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, weights, n)

    return AveragedModel(model, multi_avg_fn=update) if decay else None


class AverageSavingHook(HookBase):
    """Writes the averaged weights at the end of training.

    It goes before the hook that writes model_final.pth, because that file marks a run as complete.
    """

    def after_step(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self.trainer.save_average()
