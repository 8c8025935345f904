"""Reports how fast training is, how long it waits for data, and its progress."""

import logging
import math
import time
from collections import deque

from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter, get_event_storage

logger = logging.getLogger(__name__)

LONGEST_SILENCE = 60.0  # seconds


class ProgressHook(HookBase):
    """Writes `epoch`, `images_per_second` and `data_share` every iteration, and logs them now and then.

    They go to the event storage. `data_share` is the share of the time spent waiting for data. Speed and share are
    those of the last `period` iterations together, so that a long wait among short ones is visible. They are logged,
    after the line of the printer, every `period` iterations, after the first and the last, and at least once a minute.
    """

    def __init__(self, num_images: int, images_per_step: int, period: int, printer: EventWriter | None = None):
        """Takes the length of an epoch and a step.

        Args:
            num_images: in an epoch
            images_per_step: over all processes and accumulation steps
            period: iterations between lines in the log
            printer: writes losses and learning rate to the log
        """
        self.num_images, self.images_per_step, self.period, self.printer = num_images, images_per_step, period, printer
        self.seconds = deque(maxlen=period)  # of each iteration
        self.logged = -math.inf  # when, last

    def before_step(self) -> None:
        self.started = time.perf_counter()

    def after_step(self) -> None:
        storage, iterations, now = get_event_storage(), self.trainer.iter + 1, time.perf_counter()
        self.seconds.append(now - self.started)
        waits = storage.history("data_time").values()[-len(self.seconds) :]
        seconds, waited = sum(self.seconds), sum(wait for wait, _ in waits)
        epoch, length = (n * self.images_per_step / self.num_images for n in (iterations, self.trainer.max_iter))
        speed, share = len(self.seconds) * self.images_per_step / seconds, min(1.0, waited / seconds)
        storage.put_scalars(epoch=epoch, images_per_second=speed, data_share=share, smoothing_hint=False)
        is_last, next_line = iterations == self.trainer.max_iter, now + self.seconds[-1]  # if the next is as long
        if iterations % self.period and not is_last and next_line - self.logged <= LONGEST_SILENCE:
            return
        self.logged = now
        if self.printer:
            self.printer.write()
        logger.info(f"epoch {epoch:.2f} of {length:.2f}, {speed:.1f} images/s, {share:.0%} of it waiting for data")
