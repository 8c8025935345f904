"""Small runs of both scripts in processes of their own, for the tests that harm them.

The processes are forked, so that Detectron2 is imported once. Each has a session of its own, in which it can be seen
what is left of it.
"""

import contextlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from reference.small import AUTOENCODER, DETECTOR, ENCODER

from convmae_det.cli import pretrain, train
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.pretraining import PretrainingTrainer

SCRIPTS = {"train_net": train, "pretrain_net": pretrain}
TRAINERS = {"train_net": DetectionTrainer, "pretrain_net": PretrainingTrainer}
COMMON = (
    *("SEED", 3),
    *("MODEL.CONVMAE.DROP_PATH_RATE", 0.2),
    *("SOLVER.IMS_PER_BATCH", 2),
    *("SOLVER.REFERENCE_BATCH_SIZE", 0),
    *("SOLVER.WARMUP_ITERS", 0),
)


def command(script: str, data: Path, out: Path, *more) -> list[str]:
    """The words of a command line for the data of `write_shapes`; `more` may begin with options."""
    flags, more = [word for word in more if str(word).startswith("--")], [w for w in more if str(w)[:2] != "--"]
    sets = [
        [f"faults_{split}", str(data / f"annotations/instances_{split}.json"), str(data / split)]
        for split in ("train", "val")
    ]
    own = [*DETECTOR, "DATASETS.COCO_FORMAT", sets, "DATASETS.TEST", ("faults_val",)]
    own += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0]
    if script == "pretrain_net":
        own = [*AUTOENCODER, "DATASETS.IMAGE_FOLDERS", [["faults_train", str(data / "train")]]]
    options = [*ENCODER, *own, *COMMON, "DATASETS.TRAIN", ("faults_train",), "OUTPUT_DIR", out]
    return [str(word) for word in ("--num-gpus", 0, *flags, *options, *more)]


class Recorder(HookBase):
    """Appends each iteration and its loss, exactly, to OUTPUT_DIR/losses.txt."""

    def after_step(self) -> None:
        if not comm.is_main_process():
            return
        loss = self.trainer.storage.latest()["total_loss"][0]
        with open(f"{self.trainer.cfg.OUTPUT_DIR}/losses.txt", "a") as file:
            file.write(f"{self.trainer.iter} {float(loss).hex()}\n")


def watched(script: str) -> type:
    """Makes the script record its losses. Returns the class of its trainer."""

    class Watched(TRAINERS[script]):
        def build_hooks(self):
            return [*super().build_hooks(), Recorder()]

    if script == "train_net":
        train.choose_trainer = lambda cfg: Watched
    else:
        pretrain.PretrainingTrainer = Watched
    return Watched


class Run:
    """A script at work in a process of its own. ``harm(trainer class)`` is called there first."""

    def __init__(self, script: str, words: list[str], output: Path, harm: Callable[[type], None] | None = None):
        self.output = output
        self.process = multiprocessing.get_context("fork").Process(target=self._work, args=(script, words, harm))
        self.process.start()

    def _work(self, script: str, words: list[str], harm: Callable[[type], None] | None) -> None:
        os.setsid()
        file = os.open(self.output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, 1), os.dup2(file, 2)
        sys.stdout, sys.stderr = open(1, "w", buffering=1, closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.argv = [f"{script}.py", *words]
        torch.set_num_threads(1)
        trainer = watched(script)
        if harm:
            harm(trainer)
        sys.exit(SCRIPTS[script].main(words))

    def wait(self, seconds: float = 120) -> int:
        """The exit status, negative for a signal. AssertionError if it takes longer, or if processes are left."""
        self.process.join(seconds)
        hung, status = self.process.is_alive(), self.process.exitcode
        if hung:
            self.process.kill()
        assert not hung, f"still running after {seconds} s: {self.text()[-2000:]}"
        assert not find_left(self.process.pid), "processes are left behind"
        return status

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def sentence(self) -> str:
        """The line on stderr; AssertionError if there is a traceback."""
        text = self.text()
        assert "Traceback" not in text, text[-3000:]
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, text[-3000:]
        return lines[0]


def find_left(number: int) -> list[int]:
    """The processes of a session that don't end, although they are given time."""
    end = time.monotonic() + 60
    while (members := session(number)) and time.monotonic() < end:
        time.sleep(0.1)
    return members


def session(number: int) -> list[int]:
    """The processes of a session, zombies left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, sid = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(sid) == number and state != "Z":
                found.append(int(folder.name))
    return found


def losses(out: Path) -> list[tuple[int, float]]:
    path = out / "losses.txt"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(int(iteration), float.fromhex(loss)) for iteration, loss in lines]


def scores(out: Path) -> dict[int, float]:
    """The box AP of each evaluation in metrics.json."""
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    return {line["iteration"]: line["bbox/AP"] for line in lines if "bbox/AP" in line}


def assert_same_weights(ours: Path, theirs: Path) -> None:
    ours, theirs = (torch.load(path, weights_only=True)["model"] for path in (ours, theirs))
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]
