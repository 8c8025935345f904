"""Signals end training with a checkpoint, in all processes, and the run goes on as if there had been none."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from reference import small

from convmae_det.engine.detection import DetectionTrainer

HERE = Path(__file__).parent


class Interrupter(HookBase):
    """Sends this process a signal in mid-iteration; notes the losses."""

    def __init__(self, number, iteration, times=1):
        self.number, self.iteration, self.times, self.losses = number, iteration, times, {}

    def before_step(self):
        for _ in range(self.times if self.trainer.iter == self.iteration else 0):
            os.kill(os.getpid(), self.number)

    def after_step(self):
        self.losses[self.trainer.iter] = self.trainer.storage.latest()["total_loss"][0]


@pytest.fixture
def train(shapes_cfg):
    def train(*options, number=None, iteration=None, times=1, resume=False):
        """Returns what it came to, and the losses."""
        cfg = shapes_cfg("SOLVER.MAX_ITER", 5, "SOLVER.CHECKPOINT_PERIOD", 1000, "DATASETS.TEST", (), *options)
        trainer, interrupter = DetectionTrainer(cfg), Interrupter(number, iteration, times)
        trainer._hooks.insert(0, interrupter)
        interrupter.trainer = trainer
        trainer.resume_or_load(resume)
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        if number is None:
            trainer.train()
        else:
            with pytest.raises(KeyboardInterrupt):
                trainer.train()
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
        return trainer.checkpointer.model.state_dict(), interrupter.losses

    return train


def last_checkpoint(folder):
    return (folder / "last_checkpoint").read_text() if (folder / "last_checkpoint").exists() else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_iteration_is_finished_and_the_run_goes_on_from_there(train, tmp_path, number):
    whole, expected = train("OUTPUT_DIR", str(tmp_path / "whole"))
    _, first = train(number=number, iteration=2)
    assert sorted(first) == [0, 1, 2] and last_checkpoint(tmp_path / "out") == "model_0000002.pth"
    resumed, second = train(resume=True)
    assert sorted(second) == [3, 4]
    assert first | second == expected
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize("number, times, left", [(signal.SIGINT, 2, None), (signal.SIGTERM, 2, "model_0000002.pth")])
def test_a_second_ctrl_c_ends_at_once(train, tmp_path, number, times, left):
    train(number=number, iteration=2, times=times)
    assert last_checkpoint(tmp_path / "out") == left


@pytest.mark.parametrize("order", [(signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)])
def test_ctrl_c_and_its_copy_from_a_launcher_are_one(train, tmp_path, monkeypatch, order):
    kill = os.kill
    monkeypatch.setattr(os, "kill", lambda process, number: [kill(process, one) for one in order])
    train(number=signal.SIGINT, iteration=2)
    assert last_checkpoint(tmp_path / "out") == "model_0000002.pth"


def test_a_signal_in_the_last_iteration_leaves_a_complete_run(train, tmp_path):
    train(number=signal.SIGTERM, iteration=4)
    assert last_checkpoint(tmp_path / "out") == "model_final.pth"


def test_the_evaluation_that_would_come_next_is_made_up_for(train, tmp_path):
    options = ("DATASETS.TEST", ("shapes_val",), "TEST.EVAL_PERIOD", 3)
    train(*options, number=signal.SIGTERM, iteration=2)
    assert not (tmp_path / "out/model_best.pth").exists()
    train(*options, resume=True)
    assert '"bbox/AP": ' in (tmp_path / "out/metrics.json").read_text()
    best = torch.load(tmp_path / "out/model_best.pth", weights_only=True)["best"]
    assert best["iterations"] in (3, 5)


@pytest.fixture
def start(python, shapes_folder):
    def start(script, out, *words, environment=None):
        network = {"train": small.DETECTOR, "pretrain": small.AUTOENCODER}[script]
        options = [*small.ENCODER, *network, "DATASETS.TRAIN", ("shapes_train",), "DATASETS.TEST", ()]
        options += ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 1000, "OUTPUT_DIR", out]
        return subprocess.Popen(
            [python, HERE.parent / "watched_training.py", script, shapes_folder, *words, *map(str, options)],
            env=os.environ | {"PYTHONPATH": f"{HERE.parents[2]}"} | (environment or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def finish(*processes):
    """The exit statuses, and what each wrote to stderr."""
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("script", ["train", "pretrain"])
def test_the_script_says_how_to_resume(start, tmp_path, script, name):
    process = start(script, tmp_path, name, "1", "DATALOADER.NUM_WORKERS", "2")
    statuses, (error,) = finish(process)
    assert statuses == [130]
    checkpoint = tmp_path / "model_0000001.pth"
    assert checkpoint.exists()
    assert error.endswith(f"interrupted: the same command with --resume goes on from {checkpoint}\n")
    assert "Traceback" not in error


def test_all_processes_end_when_one_has_a_signal(start, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    words = ("SIGTERM", "1", "DATALOADER.NUM_WORKERS", "0")
    ranks = [group | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    statuses, errors = finish(*(start("train", tmp_path, *words, environment=rank) for rank in ranks))
    assert statuses == [130, 130], errors
    assert last_checkpoint(tmp_path) == "model_0000001.pth"
