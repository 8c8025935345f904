"""How many images fit into one pass on a CPU, without ever taking more memory than there is.

The peak of a pass, as a function of the number of images, is the largest of several straight lines (see pass_size.py),
none of which begins below what the process has before. So k images that raise it by some bytes show that n images raise
it by at most n/k times as much. Trials begin with one image, and double while that bound leaves room.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from detectron2.utils import comm

from ..data.stream import preserve_random_state
from ..memory import (
    forget_peak,
    is_exhausted,
    is_told,
    limit_growth,
    read_available,
    read_own_limit,
    read_resident,
    read_resident_peak,
)

MARGIN = 0.25  # of the memory available, for processes that read images, evaluation, and others' programs
THREADED = 2**22  # values: enough of them to be added to by all threads
TRIAL_IMAGES = 4  # at most, since a large network takes seconds an image


class Room(NamedTuple):
    """The memory that a process of training may take, in bytes, and the sentence about it."""

    whole: int
    usable: int  # less a margin
    said: str


def find_room(lasting: int) -> Room | None:
    """Finds what a pass may take beside what lasts, such as the optimizer's moments, the least of all processes.

    Args:
        lasting: bytes

    Returns:
        The room; None where the system doesn't say how much memory there is.
    """
    available = comm.all_gather(read_available() if is_told() else None)
    if None in available:
        return None
    processes = comm.get_local_size()
    shares = [min(available) // processes, *(limit for limit in comm.all_gather(read_own_limit()) if limit is not None)]
    whole = min(shares) - lasting
    usable = max(int(whole - MARGIN * min(shares)), 0)
    each = f" for each of {processes} processes" if processes > 1 else ""
    said = (
        f"of the {min(shares) / 2**30:.1f} GiB of memory available{each}, less a quarter for all else and "
        f"{lasting / 2**30:.1f} GiB for gradients and the optimizer, {usable / 2**30:.1f} GiB are for a pass"
    )
    return Room(whole, usable, said)


def find_images(run: Callable[[int], None], room: Room, most: int) -> tuple[int, str]:
    """Finds how many images fit, the same in all processes.

    Args:
        run: runs a pass of so many images, forward and backward
        room: of :func:`find_room`
        most: the largest number that is of use

    Returns:
        The number, at most `most`, 1 if that one takes the margin, and 0 if not even one fits; and what led to it.
    """
    torch.ones(THREADED).add_(1)  # lets threads start: one that could not, for want of memory, would end the process
    before, tried = read_resident(), 1
    while True:
        grown = comm.all_gather(measure_growth(run, tried, room.whole, before))
        if None in grown:  # only of one image: more are tried where the bound lets them fit
            return tried // 2, f"{room.said}, and one of {count(tried)} exceeds all that is left"
        bound = room.usable * tried // max(*grown, 1)
        following = min(tried * 2, most, TRIAL_IMAGES)
        if following > bound or following == tried or bound >= most:
            took = f"{room.said}, of which one of {count(tried)} took {max(grown) / 2**30:.2f} GiB"
            return min(max(bound, 1), most), took
        tried = following


def measure_growth(run: Callable[[int], None], images: int, room: int, before: int) -> int | None:
    """Measures by how many bytes a pass raises the peak of this process above `before`; None if it exceeds `room`."""
    forget_peak()
    try:
        with preserve_random_state(), limit_growth(max(room, 0)):
            run(images)
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_exhausted(error):
            raise
        return None
    return max(read_resident_peak() - before, 0)


def count(images: int) -> str:
    return "one image" if images == 1 else f"{images} images"
