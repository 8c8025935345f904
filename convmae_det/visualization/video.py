"""Frames of videos and webcams, one by one, and videos of drawn frames."""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np

from ..errors import InputError

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
TOLERANCE = 0.01  # of the length that a file says
FRAME_RATE = 25.0  # frames a second where a source doesn't tell
ENCODERS = ("libx264", "libopenh264")
QUALITY = "21"  # constant rate factor of libx264, by which what is drawn stays sharp
BITS = 0.15  # of each pixel of each frame, with other encoders
logger = logging.getLogger(__name__)


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

    The video is H.264, which browsers play from its first bytes on; a side of an odd number of pixels gains one. The
    file takes its name at the end, also if an exception, such as Ctrl-C, cuts it short: what was written can be
    watched.

    Raises:
        InputError: it can't be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
    writer = None

    def write(frame: np.ndarray) -> None:
        nonlocal writer
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), "edge")
        with _explain_failure(path):
            writer = writer or _Writer(temporary, frame_rate, frame.shape[:2])
            writer.add(frame)

    try:
        yield write
    finally:
        try:
            if writer is not None:
                with _explain_failure(path):
                    writer.close()
                    temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _explain_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # FFmpeg's errors of files are also Python's
        problem = error.strerror or error
        raise InputError(f"{path} can't be written ({problem}): choose a folder that you may write to") from error


class _Writer:
    """An .mp4 file that is being encoded."""

    def __init__(self, path: Path, frame_rate: float, size: tuple[int, int]):
        """Opens it for frames of a `size`, height and width in pixels, both even."""
        path.touch()  # FFmpeg would open it later, after some frames
        self.container = av.open(str(path), "w", options={"movflags": "+faststart"})
        encoder = find_encoder()
        rate = Fraction(frame_rate).limit_denominator(10_000)
        self.stream = cast(av.VideoStream, self.container.add_stream(encoder, rate=rate))
        self.stream.height, self.stream.width = size
        self.stream.pix_fmt = "yuv420p"
        self.stream.options = {"crf": QUALITY}
        self.stream.bit_rate = round(BITS * size[0] * size[1] * frame_rate)

    def add(self, frame: np.ndarray) -> None:
        self.container.mux(self.stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def close(self) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()


@functools.cache
def find_encoder() -> str:
    """Finds an encoder of H.264; where there is none, one of MPEG-4, which is said."""
    for name in ENCODERS:
        with contextlib.suppress(av.codec.codec.UnknownCodecError):
            av.codec.Codec(name, "w")
            return name
    logger.warning(
        "this build of PyAV has no encoder of H.264: videos are MPEG-4, which players show but browsers don't; "
        "pip install --force-reinstall --only-binary av av brings one that has"
    )
    return "mpeg4"
