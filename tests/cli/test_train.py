"""`convmae-det train` and `pretrain` take Detectron2's arguments, as train_net.py and pretrain_net.py do."""

import subprocess
import sys
from pathlib import Path

import pytest

from convmae_det.cli import pretrain, train

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", [train, pretrain])
def test_options_may_follow_the_pairs(command):
    words = ["--num-gpus", "0", "SOLVER.MAX_ITER", "6", "SOLVER.BASE_LR", "-1", "--eval-only", "MODEL.WEIGHTS", "a.pth"]
    args = command.parse([*words, "--resume"])
    assert args.eval_only and args.resume and args.num_gpus == 0
    assert args.opts == ["SOLVER.MAX_ITER", "6", "SOLVER.BASE_LR", "-1", "MODEL.WEIGHTS", "a.pth"]
    assert command.parse(["--resume"]).opts == []


@pytest.mark.parametrize("name", ["train", "pretrain"])
def test_script_module_and_torchrun_are_the_command(python, tmp_path, name):
    """All fail on the same missing file, with the same sentence."""
    words = ["--num-gpus", "0", "--config-file", "none.yaml"]
    ways = ([ROOT / f"{name}_net.py"], ["-m", "convmae_det", name])
    told = []
    for way in ways:
        done = subprocess.run([python, *way, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        told.append(done.stderr)
    assert told[0] == told[1] and told[0].startswith("error: none.yaml") and told[0].count("\n") == 1


def test_torchrun_starts_the_command(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "convmae_det", "pretrain"]
    command += ["--config-file", "none.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (
        done.returncode == 1 and "error: none.yaml" in done.stderr
    )  # twice or, as one that fails ends the other, once
