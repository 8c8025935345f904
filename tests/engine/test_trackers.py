"""Trackers get what a run brings, go on with it when it is resumed, and never disturb it."""

import contextlib
import json
import logging
import sqlite3
import sys
import textwrap

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage
from reference.interrupted import Interrupt, train_until
from reference.wandb_file import read_history, read_records

from convmae_det.config.checks.training import check_fine_tuning
from convmae_det.engine import trainer as trainer_module
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.trackers import tracker as tracker_module
from convmae_det.engine.trackers.tracker import Tracker, collect, convert_picture
from convmae_det.errors import InputError

PROGRAM = """
    import json, os, pickle, sys, time
    from convmae_det.engine.trackers.process import serve

    class Service:
        def check(self):
            return {refused!r}

        def note(self, *what):
            with open("notes.json", "a") as file:
                print(json.dumps(what), file=file)

        def begin(self, name, config, run_id):
            self.note("begin", name, config, run_id)
            return run_id or "17", "somewhere"

        def log(self, step, scalars, pictures):
            {log}
            self.note("log", step, scalars, {{name: picture.shape for name, picture in pictures.items()}})

        def finish(self, complete, folder, files, weights):
            {finish}
            self.note("finish", complete, files, weights)

    print("what a library prints", file=sys.stderr)
    serve("fake", Service(), sys.stdin.buffer, lambda **text: print(json.dumps(text), flush=True))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """``start(log=…)`` starts a tracker of a service that does as the code says; it notes all that it gets."""
    monkeypatch.chdir(tmp_path)

    def start(log="pass", finish="pass", refused=""):
        (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM.format(log=log, finish=finish, refused=refused)))
        return Tracker("fake", [sys.executable, "program.py"])

    return start


@pytest.fixture
def notes(tmp_path):
    return lambda: [json.loads(line) for line in (tmp_path / "notes.json").read_text().splitlines()]


def run(tracker, iterations, resume=False, complete=True):
    """A run with a number and a picture in each iteration."""
    tracker.check()
    tracker.begin("out", {"SOLVER.BASE_LR": 0.1}, resume)
    with EventStorage() as storage:
        for storage.iter in iterations:
            storage.put_scalar("loss", 1.0)
            storage.put_image("drawing", np.zeros((3, 4, 5), np.uint8))
            tracker.write()
            storage.clear_images()
    tracker.finish(complete, "out", ["config.yaml"], [])


def wait(tracker):
    tracker.process.wait(30)


def test_a_run_is_sent_and_a_resumed_one_goes_on(start, notes, tmp_path, caplog):
    (tmp_path / "out").mkdir()
    with caplog.at_level(logging.INFO, "convmae_det"):
        run(start(), range(3), complete=False)
        run(start(), range(1, 4), resume=True)
        run(start(), range(1))
    picture = {"drawing": [4, 5, 3]}
    config = {"SOLVER.BASE_LR": 0.1}
    assert notes() == [
        ["begin", "out", config, ""],
        *(["log", step, {"loss": 1.0}, picture] for step in range(3)),
        ["finish", False, ["config.yaml"], []],
        ["begin", "out", config, "17"],
        ["log", 3, {"loss": 1.0}, picture],  # the steps before it are there
        ["finish", True, ["config.yaml"], []],
        ["begin", "out", config, ""],
        ["log", 0, {"loss": 1.0}, picture],
        ["finish", True, ["config.yaml"], []],
    ]
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3
    assert caplog.messages[0] == "fake: begins the run somewhere"
    assert caplog.messages[1] == "fake: goes on with the run somewhere"


def test_a_run_that_was_killed_is_ended(start, notes, tmp_path):
    (tmp_path / "out").mkdir()
    tracker = start()
    tracker.check()
    tracker.begin("out", {}, False)
    while not (tmp_path / "out/tracker_fake.json").exists():
        assert tracker.process.poll() is None
    tracker.process.stdin.close()
    wait(tracker)
    assert notes()[-1] == ["finish", False, [], []]


@pytest.mark.parametrize(
    "fault, reason",
    [
        ({"log": "raise OSError('no network. At all')"}, "OSError: no network"),
        ({"log": "os._exit(3)"}, "its process has ended"),
        ({"log": "time.sleep(60)"}, "it takes nothing any more"),
        ({"finish": "time.sleep(60)"}, "it is not finished after 1 seconds"),
    ],
)
def test_a_fault_is_said_once_and_stops_nothing(start, monkeypatch, caplog, tmp_path, fault, reason):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(tracker_module, "MOST_WAITING", 20)
    monkeypatch.setattr(tracker_module, "FINISH_TIMEOUT", 1)
    with caplog.at_level(logging.WARNING, "convmae_det"):
        tracker = start(**fault)
        run(tracker, range(2000 if "sleep" in fault.get("log", "") else 5))
        wait(tracker)
    (message,) = caplog.messages
    assert message.startswith("fake is off from here on, and training goes on without it: ") and reason in message


def test_what_cannot_be_used_is_refused_before_training(start):
    tracker = start(refused="LOGGERS names fake, which knows no key")
    with pytest.raises(InputError, match="LOGGERS names fake, which knows no key"):
        tracker.check()
    wait(tracker)


def test_pictures_of_any_kind_become_bytes():
    grey = torch.tensor([[[0.0, 0.5], [1.0, float("nan")]]], requires_grad=True)
    assert convert_picture(grey)[..., 0].tolist() == [[0, 127], [255, 0]]
    assert convert_picture(grey).shape == (2, 2, 3)
    colours = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert (convert_picture(colours) == colours.transpose(1, 2, 0)).all()


def test_only_what_is_new_is_collected():
    with EventStorage() as storage:
        storage.put_scalar("old", 1)
        storage.iter = 1
        storage.put_scalars(a=2, b=3)
        assert collect(storage, 0) == {1: ({"a": 2.0, "b": 3.0}, {})}


# --- in training


def test_names_and_packages_are_checked(shapes_cfg, monkeypatch):
    cfg = shapes_cfg()
    for names in (["wandbb"], [["a"]], None, ["wandb", "wandb"], [1]):
        cfg.LOGGERS = names
        with pytest.raises(InputError) as caught:
            check_fine_tuning(cfg, 1)
        assert str(caught.value).startswith(f"LOGGERS is {names}; it must be a list of tensorboard, wandb, mlflow")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="LOGGERS names wandb, which is not installed: run pip install"):
        check_fine_tuning(shapes_cfg("LOGGERS", ["wandb"]), 1)


class Losses(HookBase):
    def __init__(self):
        self.losses = {}

    def after_step(self):
        self.losses[self.trainer.iter] = self.trainer.storage.latest()["total_loss"][0]


def train(cfg, resume=False, stop_after=None):
    """Trains, and returns the losses."""
    trainer, hook = DetectionTrainer(cfg), Losses()
    trainer.resume_or_load(resume)
    trainer.register_hooks([hook])
    register = trainer._register_writer
    trainer._register_writer = lambda: register() or trainer.register_hooks([Interrupt(stop_after)])  # behind it
    train_until(trainer, stop_after)
    return hook.losses


@pytest.fixture
def train_twice(shapes_cfg, tmp_path, monkeypatch):
    """``train_twice(name)``: a run with that tracker, interrupted and resumed. Returns the losses of its iterations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.setattr(trainer_module, "LOG_PERIOD", 1)
    options = ("SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2, "DATASETS.TEST", (), "VIS_PERIOD", 2)

    def train_twice(name):
        losses = train(shapes_cfg(*options, "LOGGERS", [], "OUTPUT_DIR", "plain"))
        cfg = shapes_cfg(*options, "LOGGERS", [name], "OUTPUT_DIR", "out", "LOG_WEIGHTS", True)
        assert train(cfg, stop_after=2) | train(cfg, resume=True) == losses  # the tracker changes nothing
        assert not list((tmp_path / "out").glob("events.*"))
        return losses

    return train_twice


def test_wandb_gets_a_resumed_run_as_one(train_twice, tmp_path):
    pytest.importorskip("wandb")
    losses, sent, runs = train_twice("wandb"), {}, set()
    for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        records = read_records(path)
        runs |= {record.run.run_id for record in records if record.WhichOneof("record_type") == "run"}
        history = read_history(records)
        assert not history.keys() & sent.keys()
        sent |= history
    assert len(runs) == 1
    assert sorted(step for step, values in sent.items() if "total_loss" in values) == [0, 1, 2, 3]
    assert sent[0]["total_loss"] == losses[0]  # those of other steps are medians
    assert any("proposals" in name for name in sent[2])
    assert (tmp_path / "wandb/latest-run/files/config.yaml").exists()


@pytest.mark.slow
def test_mlflow_gets_a_resumed_run_as_one(train_twice, tmp_path):
    pytest.importorskip("mlflow")
    losses = train_twice("mlflow")
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as store:
        assert store.execute("select status, name from runs").fetchall() == [("FINISHED", "out")]
        rows = store.execute("select step, value from metrics where key = 'total_loss' order by step").fetchall()
        assert [step for step, _ in rows] == [0, 1, 2, 3] and rows[0][1] == losses[0]
        assert store.execute("select value from params where key = 'SOLVER.MAX_ITER'").fetchall() == [("4",)]
        (place,) = store.execute("select artifact_uri from runs").fetchone()
    artifacts = tmp_path / place.removeprefix(f"{tmp_path}/")
    found = {path.name for path in artifacts.rglob("*") if path.is_file()}
    assert found >= {"config.yaml", "metrics.json", "model_final.pth", "0000002.png"}


def test_wandb_without_a_key_is_refused_in_a_sentence(shapes_cfg, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(InputError, match="LOGGERS names wandb, which knows no API key here: run `wandb login`"):
        DetectionTrainer(shapes_cfg("LOGGERS", ["wandb"]))
