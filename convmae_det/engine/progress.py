"""How far something long is: a bar on a terminal, elsewhere a line of the log a minute, by the main process."""

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

from detectron2.utils import comm
from tqdm import tqdm

logger = logging.getLogger(__name__)

LONGEST_SILENCE = 60.0  # seconds between lines


def shows_bars() -> bool:
    """Whether this process shows bars: those of a terminal, to which standard output goes, too."""
    return comm.is_main_process() and sys.stdout.isatty() and sys.stderr.isatty()


def open_bar(title: str, total: int, start: int = 0, leave: bool = True) -> tqdm:
    """Opens a bar, invisible where none is shown.

    Args:
        title: before it
        total: steps in all
        start: steps made already
        leave: whether it stays on the terminal once it is closed
    """
    width = shutil.get_terminal_size().columns  # 80 of a terminal that doesn't say, where tqdm would show nothing
    return tqdm(
        desc=title,
        total=total,
        initial=start,
        leave=leave,
        ncols=width - 1,
        disable=not shows_bars(),
    )


def choose_level() -> int:
    """Chooses the level of lines about progress: where a bar is shown, log.txt alone has them."""
    return logging.DEBUG if shows_bars() else logging.INFO


class ShownLoader:
    """A loader whose batches are counted while they are used.

    Args:
        loader: of a known number of batches
        title: what is done with them
    """

    def __init__(self, loader: Any, title: str):
        self.loader, self.title = loader, title

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        start = said = time.monotonic()
        with open_bar(self.title, len(self), leave=False) as bar:
            for number, batch in enumerate(self.loader, start=1):
                yield batch
                bar.update()
                now = time.monotonic()
                if now - said > LONGEST_SILENCE:
                    said = now
                    left = tqdm.format_interval((now - start) / number * (len(self) - number))
                    self._say(f"batch {number:,} of {len(self):,}, {left} left", choose_level())
        self._say(f"{len(self):,} batches in {tqdm.format_interval(time.monotonic() - start)}", logging.INFO)

    def _say(self, what: str, level: int) -> None:
        if comm.is_main_process():
            logger.log(level, f"{self.title}: {what}")
