"""What the processes of test_launch.py do: python launched.py NAME OPTION ..., in two processes on the CPU."""

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from detectron2.utils import comm

from convmae_det.cli import train as command
from convmae_det.engine import launch
from convmae_det.engine.hooks.interruption import InterruptionHook
from convmae_det.errors import InputError


def say_ranks(cfg, args):
    ranks = comm.get_rank(), comm.get_world_size(), comm.get_local_rank(), comm.get_local_size()
    Path(cfg.OUTPUT_DIR, f"process{comm.get_rank()}").write_text(" ".join(map(str, ranks)))
    comm.synchronize()


def mistake(cfg, args):
    raise InputError("MODEL.WEIGHTS is empty: name a file")


def fault_in_one(cfg, args):
    if comm.get_rank() == 1:
        raise ZeroDivisionError
    comm.synchronize()


def killed(cfg, args):
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    comm.synchronize()


def train(cfg, args):
    """Iterations without end, in which signals are received as in training. The checkpoint takes a second."""

    def save(name, iteration):
        time.sleep(1)
        Path(cfg.OUTPUT_DIR, name).touch()

    hook = InterruptionHook()
    step = SimpleNamespace(end_requested=False, ends=False, settle=lambda: None)
    hook.trainer = SimpleNamespace(iter=3, max_iter=9, checkpointer=SimpleNamespace(save=save), _trainer=step)
    hook.before_train()
    comm.synchronize()
    Path(cfg.OUTPUT_DIR, f"process{comm.get_rank()}").write_text(f"{os.getpid()}")
    while True:
        time.sleep(0.01)
        step.ends = any(comm.all_gather(step.end_requested))
        hook.after_step()


if __name__ == "__main__":
    sys.exit(launch.run(globals()[sys.argv[1]], command.parse(["--num-processes", "2", *sys.argv[2:]])))
