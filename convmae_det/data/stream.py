"""Training samples as a function of seed and position alone.

Position p of an endless stream is the sample p mod n of epoch p // n, in an order shuffled anew for each epoch; n is
the size of the data set. Optimizer step i takes the B positions from i·B on. Which image a position holds and how it
is augmented depends on neither the history of the run nor the number of workers, processes or accumulation steps, so
a run can resume from any step as if it had never stopped.

`SampleStream` returns the samples, `StepPositionSampler` the positions of this process. Workers return `InputError`s as
values: `ErrorReturningMapper` catches them, `ErrorRaisingLoader` raises them in the main process. `build_stream_loader`
combines all of these, for any data set and mapper; `build_share_loader` is for evaluation.
"""

import atexit
import contextlib
import functools
import itertools
import math
import multiprocessing
import os
import pickle
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.utils import comm
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler, get_worker_info

from ..config.checks.data import check_loader
from ..config.checks.rules import check_at_least
from ..config.checks.training import check_batch
from ..config.keys import AUTO
from ..errors import InputError
from .shards.members import announce_contents

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container or job on Linux: "200000 100000", or "max 100000"


@functools.lru_cache(maxsize=2)  # the current epoch, and the next, which other batches may have begun
def compute_epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """Computes the permutation, (size,) int64, in which an epoch visits the data set."""
    return np.random.default_rng((seed, epoch)).permutation(size)


def seed_generators(seed: int, position: int) -> None:
    """Seeds `random`, `numpy.random` and torch's CPU generator with (seed, position)."""
    python_seed, numpy_seed, torch_seed = np.random.SeedSequence(seed, spawn_key=(position,)).generate_state(3)
    random.seed(int(python_seed))
    np.random.seed(numpy_seed)
    torch.default_generator.manual_seed(int(torch_seed))  # torch.manual_seed would seed the GPUs' generators, too


@contextlib.contextmanager
def preserve_random_state() -> Iterator[None]:
    """Restores the state of these generators at the end: without workers, the model draws from the same ones."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    torch_state = torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.default_generator.set_state(torch_state)


class RepeatedDataset(Sequence):
    """A data set whose items come more than once in an epoch; its length is that of an epoch.

    An item of factor f comes ⌊f⌋ or ⌈f⌉ times in an epoch, on average f times, give or take the part by which the sum
    of all factors falls short of a whole number. All epochs are equally long, and none depends on those before.

    Args:
        dataset: of n items
        factors: (n,), at least 1
    """

    def __init__(self, dataset: Sequence, factors: np.ndarray):
        ends = np.cumsum(factors, dtype=np.float64)
        self.dataset, self.length = dataset, math.ceil(round(ends[-1], 6))  # what rounding errors add is no sample
        self.ends = ends * (self.length / ends[-1])  # item i has the part of [0, length) from ends[i - 1] to ends[i]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.get_at(index)

    def get_at(self, place: float) -> Any:
        """Returns the item at a place, from 0 to below the length, whole or not."""
        return self.dataset[min(int(np.searchsorted(self.ends, place, side="right")), len(self.ends) - 1)]


def draw_fraction(seed: int, epoch: int) -> float:
    """Draws what an epoch adds to whole numbers for its places in a RepeatedDataset, from 0 to below 1."""
    return np.random.default_rng((seed, epoch, 1)).random()


class SampleStream(Dataset):
    """The endless stream of mapped samples: ``stream[position]``, for any position from 0 on.

    Args:
        dataset: what to read, of n items; or a RepeatedDataset, whose epochs have n positions
        mapper: makes a sample of an item; may draw from `random`, `numpy.random` and torch's CPU generator
        seed: not negative
    """

    def __init__(self, dataset: Sequence | ConcatDataset, mapper: Callable, seed: int):
        self.dataset, self.mapper, self.seed = dataset, mapper, seed

    def __getitem__(self, position: int) -> Any:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list:
        """Returns the samples of a batch; torch's loader calls it.

        Saving the generators' states takes longer than seeding them, and once for a batch is enough.
        """
        items = [self._find_item(position) for position in positions]
        announce_contents(items)
        with preserve_random_state():
            return [self._sample(item, position) for item, position in zip(items, positions, strict=True)]

    def _find_item(self, position: int) -> Any:
        epoch, offset = divmod(position, len(self.dataset))
        index = int(compute_epoch_order(self.seed, epoch, len(self.dataset))[offset])
        if isinstance(self.dataset, RepeatedDataset):
            return self.dataset.get_at(index + draw_fraction(self.seed, epoch))
        return self.dataset[index]

    def _sample(self, item: Any, position: int) -> Any:
        seed_generators(self.seed, position)
        return self.mapper(item)


class StepPositionSampler(Sampler):
    """Yields, endlessly, the positions that one process feeds to its model, a list for each forward pass.

    A step of B images is cut into accumulation_steps · world_size equal slices; first come all processes' slices of
    the first forward pass. The images of a step are thus the same however it is cut.

    Args:
        images_per_step: B
        accumulation_steps: forward passes of a process in a step
        first_step: the optimizer step to begin with, counted from 0
        rank: of the process
        world_size: number of processes
    """

    def __init__(self, images_per_step: int, accumulation_steps: int, first_step: int, rank: int, world_size: int):
        self.images_per_step, self.first_step = images_per_step, first_step
        self.slices = range(rank, accumulation_steps * world_size, world_size)
        self.slice_size = images_per_step // (accumulation_steps * world_size)

    def __iter__(self) -> Iterator[list[int]]:
        for step in itertools.count(self.first_step):
            for part in self.slices:
                start = step * self.images_per_step + part * self.slice_size
                yield list(range(start, start + self.slice_size))


class ErrorReturningMapper:
    """A mapper that returns InputErrors instead of raising them, for use in worker processes.

    torch would raise an error of a worker again with the worker's traceback in its message. `ErrorRaisingLoader` raises
    the original instead.
    """

    def __init__(self, mapper: Callable):
        self.mapper = mapper

    def __call__(self, item: Any) -> Any:
        try:
            return self.mapper(item)
        except InputError as error:
            return error


def pack_batch(samples: list, collate: Callable[[list], Any] | None = None) -> Any:
    """Packs a batch for a worker's queue, its tensors in shared memory; without workers, returns it unpacked.

    torch would do the same in a thread that only prints errors, and the main process would wait for the batch forever.

    Args:
        samples: or InputErrors
        collate: makes the batch of them, unless one is an InputError; None: it is the list
    """
    failed = any(isinstance(sample, InputError) for sample in samples)
    batch = samples if collate is None or failed else collate(samples)
    worker = get_worker_info()
    if worker is None:
        return batch
    try:
        return bytes(ForkingPickler.dumps(batch))
    except (RuntimeError, OSError) as error:
        return [
            InputError(
                f"DATALOADER.NUM_WORKERS {worker.num_workers} need more shared memory or open files than "
                f"are available ({error}): enlarge /dev/shm (docker run --shm-size 8g), raise ulimit -n, or lower the "
                "number"
            )
        ]


def unpack_batch(batch: Any) -> Any:
    """Reverses `pack_batch`.

    Raises:
        RuntimeError: the worker that owns the shared memory is dead; the message begins as torch's does.
    """
    try:
        return pickle.loads(batch) if isinstance(batch, bytes) else batch
    except (OSError, EOFError) as error:
        raise RuntimeError(f"DataLoader worker exited before its batch was received ({error})") from error


class ErrorRaisingLoader:
    """A loader that unpacks batches of `pack_batch`, and raises the first InputError that a worker returned."""

    def __init__(self, loader: DataLoader):
        end_workers_at_exit()
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        for batch in self.loader:
            batch = unpack_batch(batch)
            for sample in batch if isinstance(batch, list) else ():
                if isinstance(sample, InputError):
                    raise sample
            yield batch


def ignore_signals(worker: int) -> None:
    """Keeps a worker alive until its parent ends it, though schedulers and terminals signal whole process groups.

    The parent asks a worker to end, and sends SIGTERM only if it doesn't, and again at its own exit. So the worker
    ignores SIGINT, and the first SIGTERM.
    """

    def receive(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, receive)


@functools.cache
def end_workers_at_exit() -> None:
    """Ends the workers that are there when this process exits, as after an error whose traceback holds their loader.

    Python itself would send each a SIGTERM, the one that they ignore, and wait for it forever.
    """

    def end() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would call it an error
        for child in multiprocessing.active_children():
            if child.daemon:
                child.kill()

    atexit.register(end)


def count_workers(cfg: CfgNode) -> int:
    """Counts the workers of a loader: DATALOADER.NUM_WORKERS; auto is this process's share of the cores."""
    workers = cfg.DATALOADER.NUM_WORKERS
    return max(1, count_cores() // comm.get_local_size()) if workers == AUTO else workers


def count_cores() -> int:
    """Counts the cores that the processes here may use: those they are bound to, and no more than a quota pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text().split()
        return min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # not Linux, or no quota
        return cores


def build_stream_loader(
    cfg: CfgNode,
    dataset: Sequence | ConcatDataset,
    mapper: Callable,
    start_iteration: int = 0,
    collate: Callable[[list], Any] | None = None,
) -> ErrorRaisingLoader:
    """Builds an endless loader of this process's batches.

    They have SOLVER.IMS_PER_BATCH / (processes · ACCUMULATION_STEPS) samples, ACCUMULATION_STEPS of them for each
    optimizer step.

    Args:
        cfg: uses SEED (negative: drawn now, the same in all processes), DATALOADER.NUM_WORKERS and the two above
        dataset: items for the mapper
        mapper: see `SampleStream`
        start_iteration: the optimizer step to begin with, counted from 0
        collate: makes a batch of a list of samples, in the workers; None: it is the list

    Raises:
        InputError: the batch can't be cut into equal parts; a key out of range. While iterating: errors of the mapper.
    """
    images, accumulation, processes = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS, comm.get_world_size()
    check_loader(cfg)
    check_batch(cfg, processes)
    check_at_least(cfg, "SOLVER.ACCUMULATION_STEPS", 1, " where data are loaded, for which resolve_schedule replaces 0")
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    positions = StepPositionSampler(images, accumulation, start_iteration, comm.get_rank(), processes)
    loader = DataLoader(
        SampleStream(dataset, ErrorReturningMapper(mapper), seed),
        batch_sampler=positions,
        num_workers=count_workers(cfg),
        collate_fn=functools.partial(pack_batch, collate=collate),
        worker_init_fn=ignore_signals,
        generator=torch.Generator(),  # each iterator draws a seed for its workers, not from the model's generator
    )
    return ErrorRaisingLoader(loader)


def build_share_loader(cfg: CfgNode, dataset: Sequence, mapper: Callable) -> ErrorRaisingLoader:
    """Builds a loader of this process's share of a data set, in its order, in batches of one sample.

    Args:
        cfg: uses DATALOADER.NUM_WORKERS
        dataset: items for the mapper; no item is in two shares
        mapper: makes a sample of an item

    Raises:
        InputError: a key out of range. While iterating: errors of the mapper.
    """
    check_loader(cfg)
    workers, checked = count_workers(cfg), ErrorReturningMapper(mapper)
    loader = build_detection_test_loader(dataset, mapper=checked, num_workers=workers, collate_fn=pack_batch)
    loader.worker_init_fn = ignore_signals
    return ErrorRaisingLoader(loader)
