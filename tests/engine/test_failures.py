"""What ends a run from outside has its sentence; what is a fault of the program keeps its traceback."""

import errno
import os

import pytest
import torch
from reference.small import detector_cfg
from torch._dynamo.exc import TorchRuntimeError

from convmae_det.engine import failures
from convmae_det.engine.failures import describe_failure, is_known_failure
from convmae_det.errors import InputError, TrainingError

READER = "DataLoader worker (pid 7) is killed by signal: {}. "
GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3"


@pytest.mark.parametrize(
    "error, sentence",
    [
        (InputError("a: b"), "^a: b$"),
        (TrainingError("a: b"), "^a: b$"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), r"^out can't be written to \(No space left on device\)"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), r"^out can't be written to \(Disk quota exceeded\)"),
        (OSError(errno.EROFS, "Read-only file system", "a/b.json"), r"^a/b\.json can't be written to"),
        (torch.OutOfMemoryError("CUDA"), "^the memory of the GPU ran out: set SOLVER.MAX_IMS_PER_PASS to auto"),
        (
            TorchRuntimeError("no kernel\nA line"),
            r"^a part of the model can't be compiled \(no kernel\): set MODEL.COMPILE",
        ),
        (RuntimeError(READER.format("Killed")), r"a process that reads images has ended \(Killed\)"),
        (RuntimeError(READER.format("Bus error")), "shared memory was exhausted"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), r"has ended \(unexpectedly\)"),
    ],
)
def test_what_comes_from_outside(error, sentence):
    cfg = detector_cfg("OUTPUT_DIR", "out")
    assert is_known_failure(error)
    with pytest.raises(ValueError, match=sentence):
        raise ValueError(describe_failure(error, cfg))


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOENT, "No such file", "a"), RuntimeError("shapes differ"), RuntimeError(GLOO), KeyError(1)],
)
def test_what_is_a_fault_of_the_program(error):
    assert not is_known_failure(error) and describe_failure(error, None) is None


class Store:
    """Of three processes, in which some are there and it may itself be gone."""

    def __init__(self, present, gone=False):
        self.present, self.gone = {f"present{rank}" for rank in present}, gone

    def set(self, key, value):
        if self.gone:
            raise torch.distributed.DistNetworkError("Connection reset")
        self.present.add(key)

    def check(self, keys):
        return set(keys) <= self.present


@pytest.mark.parametrize(
    "present, gone, named",
    [((0,), False, "process 2 of 0 to 2"), ((), False, "process 0, 2 of 0 to 2"), ((), True, "process 0 of 0 to 2")],
)
def test_processes_that_are_gone_are_named(monkeypatch, present, gone, named):
    monkeypatch.setattr(failures, "ANSWER_TIMEOUT", 0.3)
    monkeypatch.setattr(failures.comm, "get_world_size", lambda: 3)
    monkeypatch.setattr(failures.comm, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: Store(present, gone))
    assert is_known_failure(RuntimeError(GLOO))
    assert describe_failure(RuntimeError(GLOO), None).startswith(f"{named} has ended, or has not answered in time")
