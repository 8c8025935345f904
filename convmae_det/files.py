"""Files that are written whole or not at all: under a temporary name in the same folder, then renamed."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import InputError


def remove_leftovers(folder: str | Path) -> None:
    """Removes what :func:`atomic_write` left half-written where its process was killed. No other may write there."""
    for path in Path(folder).glob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and is gone when it doesn't.

    No link is followed: where `path` is one, the file takes the link's place, and what it led to stays as it is.

    Raises InputError, naming `path`, for whatever keeps it from being written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # a new one, not what somebody else's link of this name leads to
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError, the system's own error behind it
        system = error if isinstance(error, OSError) else error.__context__
        if str(error).startswith("DataLoader worker"):  # a worker's death is raised wherever the process happens to be
            raise
        raise InputError(
            f"{path} can't be written ({getattr(system, 'strerror', None) or error}), and what was there is as it was: "
            "free disk space, or choose a folder that exists and that you may write"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
