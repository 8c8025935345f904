"""Reports how fast training is, how long it waits for data, and its progress."""

import logging
import math
import time
from collections import deque

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage, get_event_storage
from tqdm import tqdm

from ..progress import LONGEST_SILENCE, choose_level, open_bar

logger = logging.getLogger(__name__)


class ProgressHook(HookBase):
    """Writes how fast training is every iteration, shows it on a bar, and logs it once a minute.

    The event storage gets `epoch`, `images_per_second`, `eta_seconds` and `data_share`, the share of the time spent
    waiting for data; they are those of the last `period` iterations together, so that a long wait among short ones is
    visible. The log has a line after the first iteration and the last, and at least one a minute.
    """

    def __init__(self, num_images: int, images_per_step: int, period: int):
        """Takes the length of an epoch and a step.

        Args:
            num_images: in an epoch
            images_per_step: over all processes and accumulation steps
            period: iterations over which speed is measured, and of whose losses the log has the medians
        """
        self.num_images, self.images_per_step, self.period = num_images, images_per_step, period
        self.seconds = deque(maxlen=period)  # of each iteration
        self.logged = -math.inf  # when, last

    def before_train(self) -> None:
        self.begun = time.perf_counter()
        self.bar = open_bar("Training", self.trainer.max_iter, self.trainer.start_iter)

    def before_step(self) -> None:
        self.started = time.perf_counter()

    def after_step(self) -> None:
        storage, iterations, now = get_event_storage(), self.trainer.iter + 1, time.perf_counter()
        self.seconds.append(now - self.started)
        waits = storage.history("data_time").values()[-len(self.seconds) :]
        seconds, waited = sum(self.seconds), sum(wait for wait, _ in waits)
        speed, share = len(self.seconds) * self.images_per_step / seconds, min(1.0, waited / seconds)
        left = seconds / len(self.seconds) * (self.trainer.max_iter - iterations)
        epoch = iterations * self.images_per_step / self.num_images
        numbers = dict(epoch=epoch, images_per_second=speed, data_share=share, eta_seconds=left)
        storage.put_scalars(**numbers, smoothing_hint=False)
        if not self.bar.disable:
            self.bar.set_postfix_str(f"{self._describe_loss(storage)}, {speed:.1f} images/s", refresh=False)
            self.bar.update()
        next_line = now + self.seconds[-1]  # if the next iteration is as long
        if iterations == self.trainer.max_iter or next_line - self.logged > LONGEST_SILENCE:
            self.logged = now
            logger.log(choose_level(), self._describe(storage))

    def after_train(self) -> None:
        self.bar.close()
        number, seconds = self.trainer.iter - self.trainer.start_iter, time.perf_counter() - self.begun
        if self.trainer.iter == self.trainer.max_iter and number > 0:
            took = tqdm.format_interval(seconds)
            logger.info(f"{number:,} iterations took {took}, with evaluations and checkpoints between them")

    def _describe_loss(self, storage: EventStorage, name: str = "total_loss") -> str:
        return f"{name} {storage.history(name).median(self.period):.4g}"

    def _describe(self, storage: EventStorage) -> str:
        iterations, latest = self.trainer.iter + 1, storage.latest()
        value = {name: latest[name][0] for name in ("epoch", "images_per_second", "data_share", "eta_seconds")}
        length = self.trainer.max_iter * self.images_per_step / self.num_images
        parts = [
            f"iteration {iterations:,} of {self.trainer.max_iter:,}",
            f"epoch {value['epoch']:.2f} of {length:.2f}",
        ]
        parts += [self._describe_loss(storage, name) for name in storage.histories() if "loss" in name]
        if "lr" in latest:
            parts.append(f"learning rate {latest['lr'][0]:.4g}")
        parts.append(f"{value['images_per_second']:.1f} images/s, {value['data_share']:.0%} of it waiting for data")
        if memory := torch.cuda.max_memory_allocated():
            parts.append(f"{memory / 2**30:.1f} GiB of the GPU at most")
        return ", ".join([*parts, f"{tqdm.format_interval(value['eta_seconds'])} left"])
