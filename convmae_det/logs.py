"""What a run says, and where: on the terminal what its user wants to know, in log.txt more of it."""

import contextlib
import logging
import os
import sys

from termcolor import colored
from tqdm import tqdm

# What lies below INFO goes to log.txt alone: long tables, and lines in place of which there is a bar.
OWN = "convmae_det"
LIBRARIES = ("detectron2", "fvcore")  # below warnings they speak to their own developers
COLOURS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class Terminal(logging.StreamHandler):
    """Writes lines to standard output, above the bars that a terminal shows."""

    def __init__(self):
        super().__init__(sys.stdout)
        self.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class Lines(logging.Formatter):
    """The time, for what is more than a piece of news its kind, and the message."""

    def __init__(self, in_colours: bool = False):
        super().__init__("[{asctime}] {message}", datefmt="%m/%d %H:%M:%S", style="{")
        self.in_colours = in_colours

    def formatMessage(self, record: logging.LogRecord) -> str:
        if record.levelno > logging.INFO:
            record.message = f"{record.levelname}: {record.message}"
        line = super().formatMessage(record)
        colour = COLOURS.get(record.levelno) if self.in_colours else None
        return colored(line, colour, attrs=["bold"]) if colour else line


def open_logs(folder: str, rank: int = 0) -> None:
    """Has the main process log to the terminal and to log.txt in `folder`, and others to log.txt.rank1, …

    It takes the place of an earlier call's, in the same process.

    Args:
        folder: is made, if there is none
        rank: of this process
    """
    os.makedirs(folder, exist_ok=True)
    name = f"log.txt.rank{rank}" if rank else "log.txt"
    file = logging.FileHandler(os.path.join(folder, name), encoding="utf-8", errors="backslashreplace")
    file.setFormatter(Lines())
    handlers: list[logging.Handler] = [file]
    if rank == 0:
        handlers.append(terminal := Terminal())
        terminal.setFormatter(Lines(in_colours=sys.stdout.isatty()))
    for logger in map(logging.getLogger, (OWN, *LIBRARIES)):
        _close(logger)
        logger.setLevel(logging.DEBUG if logger.name == OWN else logging.WARNING)
        logger.propagate = False
        for handler in handlers:
            logger.addHandler(handler)
    logging.raiseExceptions = False  # a line that a full disk doesn't take is no reason for a traceback


def _close(logger: logging.Logger) -> None:
    """Removes the handlers of an earlier call."""
    for handler in [handler for handler in logger.handlers if isinstance(handler.formatter, Lines)]:
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
