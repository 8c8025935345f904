"""One of two processes that train together dies or hangs: the other ends, says which it was, and none is left."""

import functools
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.engine import HookBase
from detectron2.utils import comm
from slow.faults import Run, assert_same_weights, command, find_left, losses

from convmae_det.cli import train
from convmae_det.engine import launch
from convmae_det.engine.detection import DetectionTrainer

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
# Training ends long after the tests give up, and so does a process that waits for the other as long as by default.
OPTIONS = ("SOLVER.MAX_ITER", 100_000, "SOLVER.PROCESS_TIMEOUT", 8, "DATALOADER.NUM_WORKERS", 1)
PATIENCE = 300  # seconds, after which a process counts as one that hangs


class Fault(HookBase):
    """Sends the process of one rank a signal, which it doesn't outlive, in mid-iteration or in an evaluation."""

    def __init__(self, rank: int, name: str, iteration: int = 3):
        self.rank, self.number, self.iteration = rank, signal.Signals[name], iteration

    def before_step(self) -> None:
        if self.trainer.iter == self.iteration:
            self.strike()

    def strike(self) -> None:
        if comm.get_rank() == self.rank:
            os.kill(os.getpid(), self.number)


def harm(trainer: type, fault: Fault, evaluating: bool = False) -> None:
    build = trainer.build_hooks
    trainer.build_hooks = lambda this: [fault, *build(this)]
    if evaluating:
        fault.iteration, test = -1, trainer.test
        trainer.test = classmethod(lambda cls, cfg, model: fault.strike() or test(cfg, model))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(shapes, out, fault=None, *more, script="train_net", evaluating=False) -> list[Run]:
    """Two processes, as torchrun starts them; `more` options of the script."""
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{free_port()}", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    words = command(script, shapes, out, *OPTIONS, "TEST.EVAL_PERIOD", 2 if evaluating else 0, *more)

    def harmed(rank):
        def prepare(trainer):
            os.environ.update(group | {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}"})
            if fault:
                harm(trainer, fault, evaluating)

        return prepare

    return [Run(script, words, out.with_suffix(f".{rank}.txt"), harmed(rank)) for rank in range(2)]


@pytest.mark.parametrize(
    "rank, name, evaluating",
    [
        (1, "SIGKILL", False),
        (0, "SIGKILL", False),
        (1, "SIGSTOP", False),
        (0, "SIGSTOP", False),
        (1, "SIGKILL", True),
        (1, "SIGSTOP", True),
    ],
)
def test_the_other_ends_and_names_it(shapes, tmp_path, rank, name, evaluating):
    out = tmp_path / "out"
    runs = start(shapes, out, Fault(rank, name), evaluating=evaluating)
    try:
        assert runs[1 - rank].wait(PATIENCE) == 1
        assert f"process {rank} of 0 to 1 has ended" in runs[1 - rank].sentence()
    finally:
        os.kill(runs[rank].process.pid, signal.SIGKILL)
    assert runs[rank].wait() == -signal.SIGKILL
    print(f"process {rank}: {name}{' in evaluation' * evaluating}; the other ended, naming it")


@pytest.mark.parametrize("script", ["train_net", "pretrain_net"])
def test_both_go_on_from_the_last_checkpoint(shapes, tmp_path, script):
    """As if nothing had happened."""
    options = ("SOLVER.MAX_ITER", 10, "SOLVER.CHECKPOINT_PERIOD", 4, "DATASETS.TEST", ())
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert [run.wait() for run in start(shapes, whole, None, *options, script=script)] == [0, 0]
    survivor, struck = start(shapes, out, Fault(1, "SIGKILL", 6), *options, script=script)
    assert (survivor.wait(), struck.wait()) == (1, -signal.SIGKILL)
    assert "process 1 of 0 to 1 has ended" in survivor.sentence()
    before = losses(out)
    assert [run.wait() for run in start(shapes, out, None, "--resume", *options, script=script)] == [0, 0]
    again = losses(out)[len(before) :]
    assert again[0][0] == 4 and set(before + again) == set(losses(whole))
    assert_same_weights(out / "model_final.pth", whole / "model_final.pth")
    print(f"{script}, process 1: SIGKILL; both went on from iteration 4 and ended as an undisturbed run")


def run_struck(launcher, name, words, output) -> str:
    """What is printed after this file has run as a program: it must fail."""
    with open(output, "w") as file:
        process = subprocess.Popen(
            [sys.executable, *launcher, __file__, name, *words],
            env=os.environ | {"PYTHONPATH": f"{HERE.parents[1]}:{HERE.parent}", "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        assert process.wait(PATIENCE) == 1
    assert not find_left(process.pid)
    return output.read_text()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_torchrun(shapes, tmp_path, name):
    """What hangs is ended by torchrun, 30 seconds after the other has."""
    words = command("train_net", shapes, tmp_path / "out", *OPTIONS)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", f"{free_port()}"]
    text = run_struck(launcher, name, words, tmp_path / "output.txt")
    if name == "SIGSTOP":  # where one has died, torchrun itself says so, and may be faster than the other process
        assert "error: process 1 of 0 to 1 has ended, or has not answered in time" in text, text[-3000:]
    else:
        assert "rank      : 1 (local_rank: 1)" in text and "Signal 9 (SIGKILL)" in text, text[-3000:]
    print(f"torchrun, process 1: {name}; all ended, none left")


def test_the_launcher(shapes, tmp_path):
    """That of --num-gpus and --num-processes, of which either process may be the first to see it."""
    words = command("train_net", shapes, tmp_path / "out", *OPTIONS, "--num-processes=2")
    text = run_struck([], "SIGKILL", words, tmp_path / "output.txt")
    assert re.search("^error: process 1 of 0 to 1 (here was ended by SIGKILL|has ended)", text, re.MULTILINE), text
    assert "Traceback" not in text


def launched(*words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, HERE.parent / "engine/launched.py", *map(str, words)],
        env=os.environ | {"PYTHONPATH": f"{HERE.parents[1]}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_fault_of_the_program_keeps_its_traceback(tmp_path):
    process = launched("fault_in_one", "OUTPUT_DIR", tmp_path)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "rank      : 1 (local_rank: 1)" in error and "in fault_in_one" in error and "ZeroDivisionError" in error


def test_two_machines_meet(tmp_path):
    """Both are this one, each with one process."""
    address = f"tcp://127.0.0.1:{free_port()}"
    options = ("--num-processes", 1, "--num-machines", 2, "--dist-url", address, "--machine-rank")
    machines = [launched("say_ranks", *options, rank, "OUTPUT_DIR", tmp_path) for rank in (1, 0)]
    assert [machine.communicate(timeout=120) and machine.returncode for machine in machines] == [0, 0]
    said = [(tmp_path / f"process{rank}").read_text() for rank in range(2)]
    assert said == ["0 2 0 1", "1 2 0 1"]


def train_struck(name: str, cfg, args):
    harm(DetectionTrainer, Fault(1, name))
    return train.train(cfg, args)


if __name__ == "__main__":
    sys.exit(launch.run(functools.partial(train_struck, sys.argv[1]), train.parse(sys.argv[2:])))
