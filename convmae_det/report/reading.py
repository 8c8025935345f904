"""Reads the JSON files that a run or a study has left, which a machine that stopped may have left half-written."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .page import end_sentence

EVALUATE, STUDY_AGAIN = "evaluate again with --eval-only", "start the study again, which keeps its finished runs"


def read_object(path: Path, keys: Sequence[str], advice: str) -> dict[str, Any]:
    """Reads a file that holds an object of JSON.

    Args:
        path: of the file
        keys: that the object has
        advice: how to get the file anew

    Raises:
        InputError: it can't be read, is cut off, or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read ({error}): {advice}") from error
    missing = [key for key in keys if key not in content] if isinstance(content, dict) else keys
    if missing:
        raise InputError(f"{path} has no {missing[0]!r}, which a finished one has: {advice}")
    return content


def describe_failure(error: Exception, folder: Path) -> str:
    """Describes in a sentence why something of a folder can't be shown."""
    if isinstance(error, InputError):
        return end_sentence(str(error))
    what = f"{type(error).__name__}: {error}"
    return f"A file of {folder} is not as this version writes it ({what}): run again what wrote it."
