"""Frames of videos and webcams, one by one, and videos of drawn frames."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from supervision import VideoInfo, VideoSink

from ..errors import InputError

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
TOLERANCE = 0.01  # of the length that a file says
FRAME_RATE = 25.0  # frames a second where a source doesn't tell


class Video:
    """A video file, or a webcam by its number.

    Attributes:
        frame_rate: frames a second
        length: in frames, as the file says; None: unknown
        missing: after the last frame: how many fewer could be read
    """

    def __init__(self, source: str | int):
        """Opens it.

        Raises:
            InputError: it can't be opened.
        """
        self.source = source
        self.capture = cv2.VideoCapture(source)
        if not self.capture.isOpened():
            kind = f"webcam {source}" if isinstance(source, int) else f"{source}"
            raise InputError(f"{kind} can't be opened as a video: check it, or convert it to .mp4")
        rate, length = (self.capture.get(key) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.frame_rate = rate if 0 < rate < 1000 else FRAME_RATE
        self.length = int(length) if length > 0 else None
        self.missing = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields frames (H, W, 3) uint8 RGB, to the video's end or for ever."""
        count = 0
        try:
            while (read := self.capture.read())[0]:
                count += 1
                yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
            # Some containers tell the length in seconds alone, which gives a frame more or less.
            short = (self.length or 0) - count
            self.missing = short if short > max(1, TOLERANCE * count) else 0
        finally:
            self.capture.release()


@contextlib.contextmanager
def write_video(path: str | os.PathLike, frame_rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that adds a frame, (H, W, 3) uint8 RGB, all of one size, to the .mp4 file `path`.

    The file takes its name at the end, also if an exception, such as Ctrl-C, cuts it short: what was written can be
    watched.

    Raises:
        InputError: it can't be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
    sink = None

    def write(frame: np.ndarray) -> None:
        nonlocal sink
        if sink is None:
            height, width = frame.shape[:2]
            try:
                sink = closing.enter_context(VideoSink(str(temporary), VideoInfo(width, height, frame_rate)))
            except RuntimeError as error:
                raise InputError(f"{path} can't be written: choose a folder that you may write to") from error
        sink.write_frame(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    try:
        with contextlib.ExitStack() as closing:
            yield write
    finally:
        if sink is not None:
            temporary.replace(path)
