"""Which sample comes when, and how it is augmented, depends on the seed and the position alone."""

import itertools
import pickle
import random
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from hypothesis import given
from hypothesis import strategies as st

from convmae_det.config.keys import AUTO
from convmae_det.data import stream as module
from convmae_det.data.stream import (
    ErrorRaisingLoader,
    ErrorReturningMapper,
    RepeatedDataset,
    SampleStream,
    StepPositionSampler,
    build_stream_loader,
    count_cores,
    count_workers,
)
from convmae_det.errors import InputError


def draw(item):
    """A mapper that uses all three generators."""
    return item, random.random(), np.random.uniform(), torch.rand(3).tolist()


def fail_at_seven(item):
    if item == 7:
        raise InputError("seven.jpg is missing.")
    return item


def take(cfg, steps, start=0, mapper=draw, size=11):
    """The first batches, as one list of samples for each optimizer step."""
    batches = iter(build_stream_loader(cfg, list(range(size)), mapper, start))
    per_step = cfg.SOLVER.ACCUMULATION_STEPS
    return [sum(itertools.islice(batches, per_step), []) for _ in range(steps)]


@pytest.fixture
def processes(monkeypatch):
    def set_processes(rank, count):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda: rank)
        monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: count)

    return set_processes


@given(size=st.integers(1, 40), seed=st.integers(0, 2**40), epoch=st.integers(0, 5))
def test_every_epoch_visits_each_item_once(size, seed, epoch):
    stream = SampleStream(range(size), lambda item: item, seed)
    assert sorted(stream[position] for position in range(epoch * size, (epoch + 1) * size)) == list(range(size))


def test_epochs_and_seeds_differ():
    epochs = [[SampleStream(range(50), draw, seed)[p + start] for p in range(50)] for seed, start in [(0, 0), (0, 50)]]
    epochs.append([SampleStream(range(50), draw, 1)[p] for p in range(50)])
    orders = {tuple(sample[0] for sample in epoch) for epoch in epochs}
    draws = {sample[1] for epoch in epochs for sample in epoch}
    assert len(orders) == 3 and len(draws) == 150


FACTORS = st.lists(st.floats(1, 5), min_size=1, max_size=20)


@given(factors=FACTORS, seed=st.integers(0, 2**40), epoch=st.integers(0, 5))
def test_items_come_as_often_as_their_factors_say(factors, seed, epoch):
    """To the whole number below or above, where the factors are scaled up to an epoch of a whole number of samples."""
    dataset = RepeatedDataset([f"item {index}" for index in range(len(factors))], np.array(factors))
    stream, size = SampleStream(dataset, lambda item: item, seed), len(dataset)
    assert sum(factors) - 1e-6 <= size < sum(factors) + 1
    items = [stream[position] for position in range(epoch * size, (epoch + 1) * size)]
    for index, factor in enumerate(factors):
        expected = factor * size / sum(factors)
        assert expected - 1 - 1e-6 < items.count(f"item {index}") < expected + 1 + 1e-6
        assert f"item {index}" in items


def test_over_many_epochs_items_come_as_often_as_their_factors_say():
    factors = np.array([1.0, 1.25, 2.5, 1.25])  # together 6
    stream = SampleStream(RepeatedDataset(range(4), factors), lambda item: item, 0)
    counts = np.bincount([stream[position] for position in range(6 * 2000)]) / 2000
    assert np.abs(counts - factors).max() < 0.05  # five standard deviations of the mean of 2000 epochs


def test_repeated_items_are_shuffled_and_differ_from_epoch_to_epoch():
    stream = SampleStream(RepeatedDataset(range(50), np.full(50, 1.5)), lambda item: item, 0)
    epochs = [[stream[position] for position in range(start, start + 75)] for start in (0, 75, 150)]
    assert len(set(map(tuple, epochs))) == len({tuple(sorted(epoch)) for epoch in epochs[:2]}) + 1 == 3
    assert epochs[0] != sorted(epochs[0])


@given(position=st.integers(0, 10**12), others=st.lists(st.integers(0, 99), max_size=4))
def test_a_repeated_sample_depends_on_its_position_not_on_what_came_before(position, others):
    dataset = RepeatedDataset(range(7), np.linspace(1, 3, 7))
    expected = SampleStream(dataset, draw, 3)[position]
    stream = pickle.loads(pickle.dumps(SampleStream(dataset, draw, 3)))
    for other in others:
        stream[other]
    assert stream[position] == expected


@given(position=st.integers(0, 10**12), others=st.lists(st.integers(0, 99), max_size=4))
def test_a_sample_depends_on_its_position_not_on_what_came_before(position, others):
    expected = SampleStream(range(7), draw, 3)[position]
    stream = SampleStream(range(7), draw, 3)
    for other in others:
        stream[other]
    assert stream[position] == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(cfg, workers):
    expected = take(cfg, 12)
    cfg.DATALOADER.NUM_WORKERS = workers
    assert take(cfg, 12) == expected


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [1, 5, 17])
def test_a_restart_goes_on_where_the_first_run_was(cfg, start, workers):
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS = 4, 2
    expected = take(cfg, 20)[start:]
    cfg.DATALOADER.NUM_WORKERS = workers
    assert take(cfg, 20 - start, start) == expected


@pytest.mark.parametrize("count, accumulation", [(2, 1), (1, 2), (2, 2), (4, 3), (12, 1)])
def test_a_step_has_the_same_images_however_it_is_cut(cfg, processes, count, accumulation):
    cfg.SOLVER.IMS_PER_BATCH = 12
    expected = take(cfg, 5)
    cfg.SOLVER.ACCUMULATION_STEPS = accumulation
    shares = []
    for rank in range(count):
        processes(rank, count)
        shares.append(take(cfg, 5))
        assert all(len(share) == 12 // count for share in shares[-1])
    assert [sorted(sum(parts, [])) for parts in zip(*shares, strict=True)] == [sorted(step) for step in expected]


@given(
    rank=st.integers(0, 3),
    count=st.integers(4, 5),
    accumulation=st.integers(1, 4),
    size=st.integers(1, 5),
    step=st.integers(0, 9),
)
def test_every_forward_pass_takes_a_contiguous_slice(rank, count, accumulation, size, step):
    total = count * accumulation * size
    lists = list(itertools.islice(StepPositionSampler(total, accumulation, step, rank, count), accumulation))
    for part, positions in enumerate(lists):
        start = step * total + (part * count + rank) * size
        assert positions == list(range(start, start + size))


def test_the_model_s_generators_are_left_alone(cfg):
    def states():
        return random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().tolist()

    before = states()
    for workers in (0, 2):
        cfg.DATALOADER.NUM_WORKERS = workers
        take(cfg, 3)
        assert states() == before

    def draw_and_fail(item):
        draw(item)
        raise InputError

    with pytest.raises(InputError):
        SampleStream(range(3), draw_and_fail, 0)[0]
    assert states() == before


def error_of(batches) -> str:
    """What the next batch raises. Without its traceback, which holds the loader, this and its workers end at once."""
    try:
        return f"nothing, but {next(batches)}"
    except InputError as error:
        error.__traceback__ = None
        return str(error)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_input_error_arrives_as_it_was_when_its_turn_comes(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    order = [SampleStream(range(11), lambda item: item, cfg.SEED)[position] for position in range(11)]
    batches = iter(build_stream_loader(cfg, list(range(11)), fail_at_seven))
    assert list(itertools.islice(batches, order.index(7) // 2)) == [
        order[p : p + 2] for p in range(0, order.index(7) - 1, 2)
    ]
    assert error_of(batches) == "seven.jpg is missing."


def test_other_errors_of_a_worker_keep_their_traceback(cfg):
    cfg.DATALOADER.NUM_WORKERS = 1
    with pytest.raises(TypeError, match="Traceback"):
        take(cfg, 1, mapper=len)


@pytest.mark.parametrize(
    ("workers", "cores", "processes", "expected"),
    [(AUTO, 16, 1, 16), (AUTO, 16, 3, 5), (AUTO, 2, 8, 1), (0, 16, 1, 0), (3, 2, 1, 3)],
)
def test_auto_workers_are_the_cores_for_each_process_here(cfg, monkeypatch, workers, cores, processes, expected):
    monkeypatch.setattr(module, "count_cores", lambda: cores)
    monkeypatch.setattr(comm, "get_local_size", lambda: processes)
    cfg.DATALOADER.NUM_WORKERS = workers
    assert count_workers(cfg) == expected


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000\n", 8), ("250000 100000\n", 3), ("50000 100000", 1), ("9900000 100000", 8), ("", 8), (None, 8)],
)
def test_cores_are_those_bound_to_and_paid_for(monkeypatch, tmp_path, quota, expected):
    """At most the quota of a container, rounded up; no file: none."""
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(module, "CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        module.CPU_QUOTA.write_text(quota)
    assert count_cores() == expected


def test_without_affinity_all_cores_count(monkeypatch, tmp_path):
    monkeypatch.delattr(module.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 6)
    monkeypatch.setattr(module, "CPU_QUOTA", tmp_path / "cpu.max")
    assert count_cores() == 6


def share_nothing(storage):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


def test_shared_memory_that_runs_out_is_named(cfg, monkeypatch):
    """By default, torch would wait for the batch without end; tests/slow makes the memory small in fact."""
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", share_nothing)
    cfg.DATALOADER.NUM_WORKERS = 2
    error = error_of(iter(build_stream_loader(cfg, range(10), torch.zeros)))
    assert re.search("NUM_WORKERS 2 .*No space left.*enlarge /dev/shm", error)


def test_checked_has_the_length_of_its_loader():
    loader = ErrorRaisingLoader(torch.utils.data.DataLoader([1, 2, 3], collate_fn=list))
    assert len(loader) == 3 and list(loader) == [[1], [2], [3]]
    assert ErrorReturningMapper(fail_at_seven)(6) == 6 and isinstance(
        ErrorReturningMapper(fail_at_seven)(7), InputError
    )


def test_negative_seed_is_drawn_once_for_all_processes(cfg, processes, monkeypatch):
    cfg.SEED = -1
    assert take(cfg, 3) != take(cfg, 3)
    monkeypatch.setattr("detectron2.utils.comm.shared_random_seed", lambda: 5)
    whole = take(cfg, 3)
    processes(1, 2)
    assert take(cfg, 3) == [step[1:] for step in whole]


def test_stream_travels_to_spawned_workers(cfg):
    stream = build_stream_loader(cfg, list(range(11)), draw).loader.dataset
    assert pickle.loads(pickle.dumps(stream))[4] == stream[4]


def test_a_batch_that_can_t_be_cut_names_the_keys(cfg, processes):
    processes(0, 3)
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS = 16, 2
    with pytest.raises(
        InputError,
        match="SOLVER.IMS_PER_BATCH is 16; it must be a multiple of 6, .* 3 processes × SOLVER.ACCUMULATION_STEPS 2",
    ):
        take(cfg, 1)


@pytest.mark.parametrize(
    "key, value", [("SOLVER.IMS_PER_BATCH", 0), ("SOLVER.ACCUMULATION_STEPS", 0), ("DATALOADER.NUM_WORKERS", -2)]
)
def test_values_out_of_range_are_named(cfg, key, value):
    cfg.merge_from_list([key, value])
    with pytest.raises(InputError, match=f"{key} is {value}; it must be a"):
        take(cfg, 1)


FAULT = """
import sys
sys.path.insert(0, {tests!r})
from reference.small import autoencoder_cfg
from convmae_det.data.stream import build_stream_loader

def read(item):
    return 1 // (item - 7)

cfg = autoencoder_cfg("SOLVER.IMS_PER_BATCH", 4, "DATALOADER.NUM_WORKERS", 2)
batches = iter(build_stream_loader(cfg, range(16), read))
for batch in batches:
    pass
"""


def test_a_process_ends_after_an_error_whose_traceback_holds_the_loader(python):
    script = FAULT.format(tests=str(Path(__file__).parents[1]))
    result = subprocess.run([python, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and "ZeroDivisionError" in result.stderr
    assert "killed" not in result.stderr
