"""What several processes find on their disks, or fail to find together."""

from collections.abc import Callable
from typing import Any, TypeVar

from detectron2.utils import comm

from ..errors import InputError

Found = TypeVar("Found")


def find_in_all_processes(find: Callable[[], Found]) -> Found:
    """Returns what `find` returns, first in the main process and then in the others, which can use its caches.

    Raises:
        InputError: in all processes, the first that `find` raised in one of them.
    """
    found: Any = None
    for turn in (True, False):
        error = None
        if comm.is_main_process() == turn:
            try:
                found = find()
            except InputError as problem:
                error = problem
        for problem in comm.all_gather(error):
            if problem:
                raise problem
    return found
