"""How fast training goes, how long it waits for data, and how far it is."""

import logging
import time

from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage

logger = logging.getLogger(__name__)


class Progress(HookBase):
    """Writes `epoch`, `images_per_second` and `data_share`, the share of the time spent waiting for data, of every
    iteration to the event storage, and logs their means over every `period` iterations."""

    def __init__(self, num_images: int, images_per_step: int, period: int = 20):
        """`num_images`: in an epoch; `images_per_step`: over all processes and accumulation steps."""
        self.num_images, self.images_per_step, self.period = num_images, images_per_step, period

    def before_step(self) -> None:
        self.started = time.perf_counter()

    def after_step(self) -> None:
        storage, seconds = get_event_storage(), time.perf_counter() - self.started
        waited = storage.history("data_time").latest() if "data_time" in storage.histories() else 0.0
        epoch = (self.trainer.iter + 1) * self.images_per_step / self.num_images
        storage.put_scalar("epoch", epoch, smoothing_hint=False)
        storage.put_scalar("images_per_second", self.images_per_step / seconds)
        storage.put_scalar("data_share", min(1.0, waited / seconds))
        if (self.trainer.iter + 1) % self.period == 0 or self.trainer.iter == self.trainer.max_iter - 1:
            speed, share = (storage.history(name).avg(self.period) for name in ("images_per_second", "data_share"))
            total = self.trainer.max_iter * self.images_per_step / self.num_images
            logger.info(f" epoch {epoch:.2f} of {total:.2f}, {speed:.1f} images/s, {share:.0%} of it waiting for data")
