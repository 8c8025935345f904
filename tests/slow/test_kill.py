"""Kill -9 at random moments, 30 times in all: each run goes on from its last whole checkpoint, and ends as it would."""

import contextlib
import io
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from slow.faults import Run, assert_same_weights, command, losses, scores

from convmae_det.checkpoint.checkpointer import Checkpointer
from convmae_det.checkpoint.reading import read_checkpoint

pytestmark = pytest.mark.slow

PHASES = ("start", "training", "checkpoint", "evaluation")
# seconds: an iteration, a checkpoint, an evaluation
LENGTH = {"training": 0.1, "checkpoint": 0.35, "evaluation": 0.4}
OPTIONS = ("SOLVER.MAX_ITER", 40, "SOLVER.CHECKPOINT_PERIOD", 4, "DATALOADER.NUM_WORKERS", 2)
EVALUATING = ("TEST.EVAL_PERIOD", 6)


class Watch:
    """What the process is doing, and for which time, seen from outside it."""

    def __init__(self):
        self.phase, self.times = (multiprocessing.get_context("fork").Value("i", 0) for _ in range(2))

    @contextlib.contextmanager
    def during(self, phase: str):
        before, self.phase.value = self.phase.value, PHASES.index(phase)
        self.times.value += 1
        yield
        self.phase.value = before

    def install(self, trainer: type) -> None:
        """In the process: notes phases, and makes the writing of a checkpoint last some tenths of a second."""
        self._stretch()
        for owner, name, phase in [
            (trainer, "train", "training"),
            (Checkpointer, "save", "checkpoint"),
            (trainer, "_evaluate", "evaluation"),
        ]:
            self._note(owner, name, phase)

    def _note(self, owner: type, name: str, phase: str) -> None:
        if original := getattr(owner, name, None):

            def noted(this, *args, **options):
                with self.during(phase):
                    return original(this, *args, **options)

            setattr(owner, name, noted)

    def _stretch(self) -> None:
        save, replace, fsync = torch.save, Path.replace, os.fsync

        def slow_save(content, file):
            buffer = io.BytesIO()
            save(content, buffer)
            data = buffer.getvalue()
            for start in range(0, len(data), len(data) // 10):
                file.write(data[start : start + len(data) // 10])
                file.flush()
                time.sleep(0.02)

        def slow_replace(this, target):
            time.sleep(0.03)
            replace(this, target)
            time.sleep(0.03)

        torch.save, Path.replace = slow_save, slow_replace
        os.fsync = lambda number: time.sleep(0.02) or fsync(number)

    def await_phase(self, phase: str, process, seconds: float = 60) -> bool:
        """Whether the process gets there; False: it has ended."""
        end = time.monotonic() + seconds
        while self.phase.value != PHASES.index(phase):
            if not process.is_alive():
                return False
            assert time.monotonic() < end, f"doesn't reach {phase}"
            time.sleep(0.002)
        return True


def last_iteration(out: Path) -> int:
    """Of the checkpoint that last_checkpoint names, -1 without one; it must be whole."""
    tag = out / "last_checkpoint"
    return read_checkpoint(out / tag.read_text())["iteration"] if tag.exists() else -1


def kill(script: str, words: list[str], out: Path, phase: str, moments: random.Random) -> str:
    """The phase in which the process was killed."""
    watch, start = Watch(), len(losses(out))
    run = Run(script, words, out.with_suffix(".txt"), watch.install)
    assert watch.await_phase(phase, run.process), run.text()[-2000:]
    iterations = moments.randint(1, 6) if phase == "training" else 0
    while len(losses(out)) < start + iterations and run.process.is_alive():
        time.sleep(0.002)
    time.sleep(moments.uniform(0, LENGTH[phase]))
    os.kill(run.process.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, run.text()[-2000:]
    return PHASES[watch.phase.value]


@pytest.fixture(scope="module")
def undisturbed(shapes, tmp_path_factory):
    folders = {}
    for script, more in (("train_net", EVALUATING), ("pretrain_net", ())):
        folders[script] = out = tmp_path_factory.mktemp("whole") / script
        run = Run(script, command(script, shapes, out, *OPTIONS, *more), out.with_suffix(".txt"))
        assert run.wait() == 0, run.text()[-2000:]
    return folders


@pytest.mark.parametrize(
    "script, phase, times",
    [
        ("train_net", "training", 6),
        ("train_net", "checkpoint", 6),
        ("train_net", "evaluation", 6),
        ("pretrain_net", "training", 6),
        ("pretrain_net", "checkpoint", 6),
    ],
)
def test_a_killed_run_goes_on_from_its_last_checkpoint(undisturbed, shapes, tmp_path, script, phase, times):
    moments, whole, out = random.Random(f"{script} {phase}"), undisturbed[script], tmp_path / "out"
    options = (*OPTIONS, *(EVALUATING if script == "train_net" else ()))
    words, found = command(script, shapes, out, "--resume", *options), []
    for _ in range(times):
        begun, start = last_iteration(out), len(losses(out))
        found.append(kill(script, words, out, phase, moments))
        assert losses(out)[start:][:1] in ([], [(begun + 1, dict(losses(whole))[begun + 1])])
    begun, start = last_iteration(out), len(losses(out))
    last = Run(script, words, tmp_path / "last.txt")
    assert last.wait() == 0, last.text()[-2000:]

    assert not losses(out)[start:] or losses(out)[start][0] == begun + 1
    assert set(losses(out)) == set(losses(whole))
    assert_same_weights(out / "model_final.pth", whole / "model_final.pth")
    if script == "train_net":
        assert scores(out) == scores(whole)
        assert_same_weights(out / "model_best.pth", whole / "model_best.pth")
    assert not list(out.glob(".*.tmp"))
    repeated = len(losses(out)) - len(losses(whole))
    where = ", ".join(f"{found.count(name)} in {name}" for name in PHASES if name in found)
    print(f"{script}: {times} kills ({where}), {times} survived, {repeated} iterations repeated with equal losses")
