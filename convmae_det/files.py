"""Files that are written whole or not at all: under a temporary name in the same folder, then renamed."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import InputError


def remove_temporary_files(folder: str | Path) -> None:
    """Removes temporary files of :func:`atomic_write` whose process was killed. No other process may write there."""
    for path in Path(folder).glob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a file that replaces `path` when the block succeeds, and that is deleted when it fails.

    Links are not followed: where `path` is a link, the file replaces the link, and its target is not changed.

    Raises:
        InputError: the file can't be written; names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # a new file, never the target of an existing link
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError; the system's error is its context
        system = error if isinstance(error, OSError) else error.__context__
        if str(error).startswith("DataLoader worker"):  # raised by a signal handler, anywhere in the program
            raise
        raise InputError(
            f"{path} can't be written ({getattr(system, 'strerror', None) or error}), and an earlier file there "
            "is unchanged: free disk space, or choose a folder that exists and that you may write"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
