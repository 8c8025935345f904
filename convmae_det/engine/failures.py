"""What ends a run from outside, such as a full disk, a reader that was killed or a process that is gone, in a sentence.

Such errors arise in any line of Detectron2 and PyTorch, so they are told apart at the top, by what they say.
"""

import contextlib
import errno
import re
import threading
import time
from typing import TypeGuard

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.utils import comm

from ..errors import PrintableError, shorten_error

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
COMPILERS = ("torch._dynamo.", "torch._inductor.", "triton.")  # modules of their errors
ANSWER_TIMEOUT = 10  # seconds, less than the 30 that torchrun gives the others when one has ended


def is_known_failure(error: BaseException | None) -> bool:
    """Whether :func:`describe_failure` has a sentence for it."""
    found = (_is_unwritable(error), _is_of_a_reader(error), _is_of_another_process(error), _is_of_a_compiler(error))
    return isinstance(error, (PrintableError, torch.OutOfMemoryError)) or any(found)


def describe_failure(error: BaseException, cfg: CfgNode | None) -> str | None:
    """The sentence that the user needs; None for an error that is not known.

    Asks the other processes whether they are there if one of them is gone, for at most ANSWER_TIMEOUT seconds.
    """
    if isinstance(error, PrintableError):
        return str(error)
    if _is_unwritable(error):
        place = error.filename or (cfg.OUTPUT_DIR if cfg else "a file")
        return (
            f"{place} can't be written to ({error.strerror}), and the last checkpoint is as "
            "it was: make room, then go on with --resume"
        )
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "the memory of the GPU ran out: set SOLVER.MAX_IMS_PER_PASS to auto, or to fewer images than now, or see "
            "docs/one_gpu.md for what else takes less, then go on with --resume"
        )
    if _is_of_a_compiler(error):
        return (
            f"a part of the model can't be compiled ({shorten_error(error)}): set MODEL.COMPILE False, then go on with "
            "--resume"
        )
    if _is_of_a_reader(error):
        return _describe_reader_failure(str(error))
    if _is_of_another_process(error):
        return _describe_process_failure()
    return None


def _is_unwritable(error: BaseException | None) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and error.errno in UNWRITABLE


def _is_of_a_compiler(error: BaseException | None) -> TypeGuard[Exception]:
    """Whether it comes from torch.compile, as in a first backward pass; see ops/compilation.py for the forward one."""
    return any(f"{kind.__module__}.".startswith(COMPILERS) for kind in type(error).__mro__)


def _is_of_a_reader(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def _is_of_another_process(error: BaseException | None) -> bool:
    if comm.get_world_size() == 1 or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or bool(re.search(r"\bgloo\b|\bNCCL\b", str(error)))


def _describe_reader_failure(message: str) -> str:
    signal = re.search(r"killed by signal: (\w[\w ]*)", message)
    if signal and signal[1] == "Bus error":
        return (
            "shared memory was exhausted: enlarge /dev/shm (docker run --shm-size 8g), or lower DATALOADER.NUM_WORKERS"
        )
    return (
        f"a process that reads images has ended ({signal[1] if signal else 'unexpectedly'}), as the system does when "
        "memory runs out: lower DATALOADER.NUM_WORKERS if so, then go on with --resume"
    )


def _describe_process_failure() -> str:
    missing = _find_missing_processes()
    names = ", ".join(map(str, missing))
    who = f"process {names}" if missing else "the connection to a process"
    return (
        f"{who} of 0 to {comm.get_world_size() - 1} has ended, or has not answered in time (SOLVER.PROCESS_TIMEOUT): "
        "what it wrote to stderr or to log.txt.rankN may say why; start all again with --resume"
    )


def _find_missing_processes() -> list[int]:
    """The processes that are gone or hang: those that don't come here, as all others do when communication fails."""
    me, size = comm.get_rank(), comm.get_world_size()
    missing = [0] if me else []  # as long as the store doesn't answer, which lies with the first process

    def ask() -> None:
        nonlocal missing
        with contextlib.suppress(RuntimeError):
            store, end = dist.distributed_c10d._get_default_store(), time.monotonic() + ANSWER_TIMEOUT
            store.set(f"present{me}", "")
            absent = [rank for rank in range(size) if rank != me]
            while absent and time.monotonic() < end:
                time.sleep(0.2)
                missing = absent = [rank for rank in absent if not store.check([f"present{rank}"])]

    asking = threading.Thread(target=ask, daemon=True)  # the store waits without end for a process that hangs
    asking.start()
    asking.join(ANSWER_TIMEOUT + 1)
    return missing
