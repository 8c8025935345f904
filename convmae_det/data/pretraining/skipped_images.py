"""The file that names the images which a pretraining run could not read."""

import logging
import os
from collections.abc import Iterable

logger = logging.getLogger(__name__)


class SkippedImageLog:
    """A text file of the images that could not be read, each once: a line is a name, a tab and the reason.

    Several processes may share it, and a resumed run continues it, also one whose lines are names alone.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path
        self._names = self._read()

    @property
    def count(self) -> int:
        """The number of names in the file."""
        return len(self._read())

    def update(self, entries: Iterable[tuple[str, str]]) -> None:
        """Adds the (name, reason) of what `SkippingMapper` skipped."""
        skipped = {_encode(name): _encode(reason) for name, reason in entries}
        if skipped.keys() <= self._names:
            return
        self._names = self._read()  # other processes may have added to it
        new = sorted(skipped.keys() - self._names)
        for name in new:
            shown, reason = (text.decode(errors="backslashreplace") for text in (name, skipped[name]))
            logger.warning("%s is skipped: it %s (%s names all of them)", shown, reason, self.path)
        os.makedirs(os.path.dirname(self.path) or os.curdir, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:  # all lines in one write
            file.write(b"".join(name + b"\t" + skipped[name] + b"\n" for name in new))
        self._names.update(new)

    def _read(self) -> set[bytes]:
        try:
            with open(self.path, "rb") as file:
                return {line.partition(b"\t")[0] for line in file.read().split(b"\n")} - {b""}
        except FileNotFoundError:
            return set()


def _encode(text: str) -> bytes:
    return os.fsencode(text).replace(b"\n", rb"\n").replace(b"\t", rb"\t")
