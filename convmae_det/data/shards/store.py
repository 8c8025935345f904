"""Stores that fsspec reads, such as S3: asked again when they fail, until that is of no use."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ...errors import InputError, shorten_error

logger = logging.getLogger(__name__)

PIECE = 2**23  # bytes that are read at once
WAITS = (1, 2, 4, 8, 16)  # seconds before a store is asked again

Result = TypeVar("Result")


class StoreError(Exception):
    """A store didn't give what was asked for."""


def is_remote(address: str) -> bool:
    """Whether an address is that of a store, such as s3://, gs:// or https://."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address) is not None


def hide_secrets(text: str) -> str:
    """Leaves out what may be secret in addresses of stores: signatures behind a question mark, and passwords."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", re.sub(r"(://[^\s?]*)\?[^\s'\"]*", r"\1", text))


def open_store(address: str) -> tuple[Any, str]:
    """Opens the file system of an address; also returns the path in it."""
    import fsspec

    return fsspec.core.url_to_fs(address)


def ask(name: str, action: Callable[[], Result]) -> Result:
    """Does something with a store, and again after a while if it fails.

    Raises:
        InputError: it fails in a way that time doesn't mend, or once more often than there are WAITS.
    """
    for wait in (*WAITS, None):
        try:
            return action()
        except InputError:
            raise
        except Exception as error:  # each store has errors of its own
            cause = _find_cause(error)
            problem, reason = _describe_final(cause), _shorten(cause)
            if wait is None and not problem:
                problem = f"can't be read ({reason}), tried {len(WAITS) + 1} times: see whether its store answers, and "
                problem += "start again; what has been copied is kept"
            if problem:
                raise InputError(f"{name}, of DATASETS.SHARDS, {problem}.") from error
            logger.warning("%s can't be read (%s): trying again in %d s", name, reason, wait)
            time.sleep(wait or 0)
    raise AssertionError  # unreachable


def _find_cause(error: BaseException) -> BaseException:
    """Finds what a store's error is about: fsspec says of web servers that don't answer that a file isn't found."""
    cause = error.__cause__
    if cause is None:
        return error
    failed = isinstance(cause, (OSError, TimeoutError)) or type(cause).__module__.startswith("aiohttp")
    wrapped = isinstance(error, StoreError) or (isinstance(error, FileNotFoundError) and failed)
    return _find_cause(cause) if wrapped else error


def _describe_final(error: BaseException) -> str:
    """Describes an error that time doesn't mend; empty for others."""
    status = getattr(error, "status", None)  # of a web server
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "doesn't exist: correct the address"
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"can't be read ({_shorten(error)}): correct the address, or see to the right to read it"
    if isinstance(error, ImportError):
        return f"needs a library ({_shorten(error)}): pip install 'convmae_det[shards]'"
    if isinstance(error, ValueError) and str(error).startswith("Protocol not known"):
        return f"is in no store that fsspec knows ({error}): correct the address"
    return ""


def _shorten(error: BaseException) -> str:
    return shorten_error(hide_secrets(str(error)) or type(error).__name__)


def read_pieces(address: str) -> Iterator[bytes]:
    """Yields the content of a remote file; all that goes wrong is a StoreError, not one of writing the copy."""
    try:
        store, path = open_store(address)
        with store.open(path, "rb") as remote:
            while piece := remote.read(PIECE):
                yield piece
    except Exception as error:
        raise StoreError(str(error)) from error
