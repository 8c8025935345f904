"""Sends the numbers and pictures of a run to the process of a tracker.

That process is what fails, hangs and draws random numbers in its place: training only puts into a queue what is new,
and once the tracker has failed, nothing more.
"""

import contextlib
import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

from ...errors import InputError, shorten_error
from .process import SERVICES

logger = logging.getLogger(__name__)

MOST_WAITING = 200  # messages that a tracker hasn't taken
START_TIMEOUT, FINISH_TIMEOUT, UPLOAD_TIMEOUT = 120.0, 60.0, 600.0  # seconds; the last where it also takes weights
WINDOW = 20  # iterations of whose losses the median is sent, as to metrics.json


class Tracker(EventWriter):
    """A writer for one of LOGGERS, beside that of metrics.json; the main process alone has it."""

    def __init__(self, name: str, program: Sequence[str] = ()):
        """Starts the process.

        Args:
            name: wandb or mlflow
            program: to be started in place of process.py
        """
        self.name, self.has_begun, self.is_off, self.last = name, False, False, -1
        self.requests: queue.Queue[tuple] = queue.Queue(MOST_WAITING)
        self.answers: queue.Queue[dict[str, str]] = queue.Queue()
        self.lock = threading.Lock()
        package = str(Path(__file__).parents[3])
        self.process = subprocess.Popen(
            program or [sys.executable, "-m", f"{__package__}.process", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))},
            start_new_session=True,  # Ctrl-C is for training, which ends its trackers
        )
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def check(self) -> None:
        """Waits until the library is there.

        Raises:
            InputError: it can't be used, and why.
        """
        answer = self._await("ready", START_TIMEOUT)
        if "refused" in answer:
            self._turn_off()
            raise InputError(answer["refused"])

    def begin(self, folder: str, config: Mapping[str, Any], resume: bool) -> None:
        """Begins a run, or goes on with the one that is recorded in `folder`.

        Args:
            folder: OUTPUT_DIR
            config: values of all keys
            resume: whether training is resumed
        """
        self.has_begun = True
        self._put("begin", folder, dict(config), resume)

    def write(self) -> None:
        """Sends what the event storage has got since the last time."""
        if self.is_off:
            return
        try:
            for step, (scalars, pictures) in sorted(collect(get_event_storage(), self.last).items()):
                self._put("log", step, scalars, pictures)
                self.last = step
        except Exception as error:  # whatever a picture may be
            self._fail(error)

    def finish(self, complete: bool, folder: str, files: Sequence[str], weights: Sequence[str] = ()) -> None:
        """Ends the run, and waits until all is sent, but not for long.

        Args:
            complete: whether training came to its end
            folder: OUTPUT_DIR
            files: of the run, by their paths in `folder`
            weights: the same, large ones
        """
        try:
            if self.has_begun and not self.is_off:
                self._put("finish", complete, folder, list(files), list(weights))
                self._await("finished", UPLOAD_TIMEOUT if weights else FINISH_TIMEOUT)
        finally:
            self._turn_off()

    def _put(self, *request: Any) -> None:
        if not self.is_off:
            try:
                self.requests.put_nowait(request)
            except queue.Full:
                self._fail("it takes nothing any more")

    def _await(self, kind: str, seconds: float) -> dict[str, str]:
        """Waits for an answer; empty if the tracker fails."""
        try:
            return self.answers.get(timeout=seconds)
        except queue.Empty:
            self._fail(f"it is not {kind} after {seconds:.0f} seconds")
            return {}

    def _send(self) -> None:
        """In a thread of its own: hands the process what is to be sent."""
        stream: Any = self.process.stdin
        with contextlib.suppress(OSError, ValueError):  # it has ended: the other thread learns why
            while not self.is_off:
                pickle.dump(self.requests.get(), stream)
                stream.flush()

    def _receive(self) -> None:
        """In a thread of its own: takes the process's answers, each a line."""
        stream: Any = self.process.stdout
        for line in stream:
            answer = json.loads(line)
            if "failed" in answer:
                self._fail(answer["failed"])
            elif "begun" in answer:
                logger.info(f"{self.name}: {answer['begun']}")
            else:
                self.answers.put(answer)
            if answer.keys() & {"finished", "refused"}:
                return
        self._fail("its process has ended")

    def _fail(self, reason: Exception | str) -> None:
        self._turn_off(shorten_error(reason))

    def _turn_off(self, reason: str = "") -> None:
        """Ends the process, once; with a reason, says so."""
        with self.lock:
            if self.is_off:
                return
            self.is_off = True
            if reason:
                logger.warning(f"{self.name} is off from here on, and training goes on without it: {reason}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.answers.put({})  # for whoever waits
        with contextlib.suppress(queue.Full):
            self.requests.put_nowait(())


def start_trackers(names: Sequence[str]) -> list[Tracker]:
    """Starts those of `names` that are trackers, all at once.

    Raises:
        InputError: one can't be used.
    """
    trackers = [Tracker(name) for name in names if name in SERVICES]
    for tracker in trackers:
        tracker.check()
    return trackers


def collect(storage: EventStorage, last: int) -> dict[int, tuple[dict[str, float], dict[str, np.ndarray]]]:
    """Collects the numbers and pictures of iterations after `last`.

    Returns:
        by iteration: numbers, and pictures as (height, width, 3) uint8, both by their names
    """
    found: dict[int, tuple[dict, dict]] = defaultdict(lambda: ({}, {}))
    for name, (value, step) in storage.latest_with_smoothing_hint(WINDOW).items():
        if step > last:
            found[step][0][name] = float(value)
    for name, picture, step in storage._vis_data:
        if step > last:
            found[step][1][name] = convert_picture(picture)
    return dict(found)


def convert_picture(picture: np.ndarray | torch.Tensor) -> np.ndarray:
    """Converts (3 or 1, height, width), bytes or from 0 to 1, to (height, width, 3) uint8."""
    values = torch.as_tensor(picture).detach().cpu()
    if values.dtype != torch.uint8:
        values = (255 * values.clamp(0, 1).nan_to_num()).to(torch.uint8)
    return values.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
