"""The processes that share a work, started by torchrun: what each of them is given, and which of them ends it.

They exchange a few numbers through the store that torchrun keeps, and nothing else: none waits for another while it
works, and one that dies takes no more with it than what it was at.
"""

import contextlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from ..config.device import is_started_by_torchrun
from ..errors import InputError, shorten_error

PATIENCE = 10  # seconds for which an interrupted process waits for the others; torchrun kills after 30
TIMEOUT = timedelta(minutes=30)  # for the first process to look at what earlier runs left


class Processes:
    """This process and the others; by itself there is no other.

    Attributes:
        rank: its number, from 0 on
        world: how many there are
    """

    def __init__(self, rank: int = 0, world: int = 1, store: dist.Store | None = None):
        self.rank, self.world, self._store = rank, world, store
        self._counts: Counter[str] = Counter()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def ask_first(self, compute: Callable[[], Any]) -> Any:
        """Returns in every process what `compute`, called in the first alone, returns; JSON can hold it.

        Raises:
            InputError: what it raises; or the first process doesn't answer.
        """
        if self._store is None:
            return compute()
        if not self.is_first:
            with _explain_failure():
                self._store.set_timeout(TIMEOUT)
                answer = json.loads(self._store.get("answer"))
            if "problem" in answer:
                raise InputError(answer["problem"])
            return answer["value"]
        try:
            value = compute()
        except InputError as error:
            self._store.set("answer", json.dumps({"problem": str(error)}))
            raise
        self._store.set("answer", json.dumps({"value": value}))
        return value

    def share(self, name: str, numbers: Sequence[int]) -> Iterator[int]:
        """Yields, in their order, those of the numbers that no other process was given: the next whenever one is free.

        Args:
            name: of what is shared
            numbers: the same in all processes
        """
        while (place := self._count(name, 1) - 1) < len(numbers):
            yield numbers[place]

    def count_given(self, name: str) -> int:
        """Counts what all processes have been given; after the last number, some more."""
        return self._count(name, 0)

    def end(self, interrupted: bool) -> bool:
        """Says that this process has ended its work.

        Returns:
            Whether it is this process that ends the whole: the last one or, after an interruption, the first that has
            waited long enough.
        """
        ended = self._count("ended", 1)
        deadline = time.monotonic() + PATIENCE
        while interrupted and ended < self.world and time.monotonic() < deadline:
            time.sleep(0.1)
            ended = self._count("ended", 0)
        return (interrupted or ended == self.world) and self._count("ending", 1) == 1

    def _count(self, name: str, added: int) -> int:
        if self._store is None:
            self._counts[name] += added
            return self._counts[name]
        with _explain_failure():
            return self._store.add(name, added)


@contextlib.contextmanager
def _explain_failure() -> Iterator[None]:
    try:
        yield
    except dist.DistError as error:
        raise InputError(
            f"the first of the machines doesn't answer any more ({shorten_error(error)}): start all of them again with "
            "--resume, which goes on from what is done"
        ) from error


def join_processes() -> Processes:
    """Joins the processes that torchrun has started, if it has.

    Raises:
        InputError: they don't meet.
    """
    if not is_started_by_torchrun():
        return Processes()
    with _explain_failure():
        store, rank, world = next(dist.rendezvous("env://", timeout=TIMEOUT))
    return Processes(rank, world, dist.PrefixStore("convmae_det/predict", store))


@contextlib.contextmanager
def stop_at_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises KeyboardInterrupt, as Ctrl-C does.

    Clusters send SIGTERM before the time is over, and launchers when another process has failed.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone receives signals
        yield
        return
    replaced = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


def ignore_more_signals(processes: Processes) -> None:
    """After an interruption, keeps what is being written from a second signal, until :func:`stop_at_sigterm` ends.

    Launchers pass Ctrl-C on to processes that have had it already; without one, a second Ctrl-C ends at once.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, *([signal.SIGINT] if processes.world > 1 else [])):
            signal.signal(number, signal.SIG_IGN)
