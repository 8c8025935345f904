"""Reports how fast training is, how long it waits for data, and its progress."""

import logging
import time
from collections import deque

from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage

logger = logging.getLogger(__name__)


class ProgressHook(HookBase):
    """Writes and logs `epoch`, `images_per_second` and `data_share` every `period` iterations.

    They go to the event storage. `data_share` is the share of the time spent waiting for data. Speed and share are
    those of the last `period` iterations together, so that a long wait among short ones is visible.
    """

    def __init__(self, num_images: int, images_per_step: int, period: int):
        """Takes the length of an epoch and a step.

        Args:
            num_images: in an epoch
            images_per_step: over all processes and accumulation steps
            period: iterations between lines in the log
        """
        self.num_images, self.images_per_step, self.period = num_images, images_per_step, period
        self.seconds, self.waited = deque(maxlen=period), deque(maxlen=period)  # of each iteration

    def before_step(self) -> None:
        self.started = time.perf_counter()

    def after_step(self) -> None:
        storage, iterations = get_event_storage(), self.trainer.iter + 1
        self.seconds.append(time.perf_counter() - self.started)
        self.waited.append(storage.history("data_time").latest())
        seconds = sum(self.seconds)
        epoch, length = (n * self.images_per_step / self.num_images for n in (iterations, self.trainer.max_iter))
        speed, share = len(self.seconds) * self.images_per_step / seconds, min(1.0, sum(self.waited) / seconds)
        storage.put_scalars(epoch=epoch, images_per_second=speed, data_share=share, smoothing_hint=False)
        if iterations % self.period == 0 or iterations == self.trainer.max_iter:
            logger.info(f"epoch {epoch:.2f} of {length:.2f}, {speed:.1f} images/s, {share:.0%} of it waiting for data")
