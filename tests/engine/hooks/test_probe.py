"""Probes tell during pretraining what the features are worth, and leave the run as it would have been."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase
from PIL import Image
from reference.small import autoencoder_cfg

from convmae_det.cli import probe as command
from convmae_det.data.pretraining.skipped_images import SkippedImageLog
from convmae_det.engine import trainer
from convmae_det.engine.hooks.probe import FeatureProbe
from convmae_det.engine.pretraining import PretrainingTrainer
from convmae_det.errors import InputError

COLOURS = {"blue": (20, 30, 200), "red": (210, 40, 30), "grey": (120, 120, 120)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Noisy images of three colours in two parts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for part, count in {"train": 6, "test": 4}.items():
        for name, colour in COLOURS.items():
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = (generator.normal(0, 40, (64, 64, 3)) + colour).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


@pytest.fixture
def make(folder, catalog, monkeypatch):
    """make(KEY, value, …): a trainer of six iterations, three an epoch, that probes the colours and logs each time."""
    monkeypatch.setattr(trainer, "LOG_PERIOD", 1)

    def make(*options):
        cfg = autoencoder_cfg("SEED", 3, "OUTPUT_DIR", str(folder / "out"), "DATALOADER.NUM_WORKERS", 0)
        cfg.merge_from_list(["DATASETS.IMAGE_FOLDERS", [["images", str(folder / "train")]], "DATASETS.TEST", ()])
        cfg.merge_from_list(["DATASETS.TRAIN", ("images",), "MODEL.CONVMAE.DROP_PATH_RATE", 0.2])
        cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", 6, "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.MAX_ITER", 6])
        cfg.merge_from_list(["SOLVER.WARMUP_ITERS", 0, "SOLVER.CHECKPOINT_PERIOD", 3])
        cfg.merge_from_list(["TEST.PROBE", [["colours", str(folder / "train"), str(folder / "test")]]])
        cfg.merge_from_list(list(options))
        return PretrainingTrainer(cfg)

    return make


def train(run, resume=False):
    run.resume_or_load(resume)
    run.train()
    return {name: tensor.clone() for name, tensor in run.checkpointer.model.state_dict().items()}


def read_metrics(out):
    """The numbers of probes by iteration and name; the last where they were written twice."""
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    numbers = {(line["iteration"], name): value for line in lines for name, value in line.items()}
    return {key: value for key, value in numbers.items() if key[1].startswith(("probe/", "features/"))}


def test_no_step_is_probed_whose_outcome_is_not_known(make, monkeypatch):
    """On a GPU outcomes are read while the next step runs."""
    monkeypatch.setattr(trainer, "LOG_PERIOD", 100)
    known = []
    monkeypatch.setattr(FeatureProbe, "evaluate", lambda probe: known.append(run._trainer.pending is None) or {})
    run = make("TEST.PROBE_EPOCHS", 1.0, "SOLVER.CHECKPOINT_PERIOD", 1000)
    run._trainer.reads_late = True
    train(run)
    assert known == [True, True]


def test_numbers_of_each_epoch_and_of_the_end(make, folder, capsys, caplog):
    with caplog.at_level(logging.INFO, "convmae_det"):
        train(make("TEST.PROBE_EPOCHS", 1.0, "SOLVER.MAX_ITER", 7))
    metrics = read_metrics(folder / "out")
    names = ("features/rank", "probe/colours/knn_top1", "probe/colours/rank")
    assert {name for _, name in metrics} == set(names)
    assert len({iteration for iteration, _ in metrics}) == 3
    assert "Probe colours: 18 training and 12 test images" in caplog.text
    assert caplog.text.count("Probe colours: k-NN top-1") == 3

    parts = ("--train", str(folder / "train"), "--test", str(folder / "test"), "--workers", "0")
    command.main(["--weights", str(folder / "out/model_final.pth"), *parts, "--output", str(folder / "report.json")])
    report = json.loads((folder / "report.json").read_text())
    last = max(iteration for iteration, _ in metrics)
    assert metrics[last, names[1]] == pytest.approx(report["knn_top1"])
    assert metrics[last, names[2]] == pytest.approx(report["rank"], rel=1e-4)
    assert metrics[last, names[0]] == pytest.approx(report["rank"], rel=1e-4)  # the same images


def test_probes_do_not_disturb(make, folder):
    probed = train(make("TEST.PROBE_EPOCHS", 0.3))
    plain = train(make("TEST.PROBE", [], "OUTPUT_DIR", str(folder / "plain")))
    assert not [name for name, tensor in plain.items() if not torch.equal(tensor, probed[name])]
    assert not read_metrics(folder / "plain")


def test_the_rank_needs_no_labels(make, folder):
    train(make("TEST.PROBE", [], "TEST.PROBE_EPOCHS", 1.0))
    assert {name for _, name in read_metrics(folder / "out")} == {"features/rank"}


class Fault(HookBase):
    """Ends training before its fifth iteration, in place of what happens there."""

    def before_step(self):
        if self.trainer.iter == 4:
            raise ZeroDivisionError


@pytest.mark.parametrize("probed", [True, False])
def test_a_run_that_was_cut_off_has_the_same_numbers(make, folder, monkeypatch, probed):
    """Also where it ended between a checkpoint and its probe."""
    whole = train(make("TEST.PROBE_EPOCHS", 1.0, "OUTPUT_DIR", str(folder / "whole")))
    run = make("TEST.PROBE_EPOCHS", 1.0)
    run.register_hooks([Fault()])
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        if not probed:
            patch.setattr(FeatureProbe, "evaluate", lambda self: {})
        train(run)
    resumed = train(make("TEST.PROBE_EPOCHS", 1.0), resume=True)
    assert not [name for name, tensor in whole.items() if not torch.equal(tensor, resumed[name])]
    assert read_metrics(folder / "out") == read_metrics(folder / "whole")


def test_nothing_is_probed_after_a_fault_in_the_last_iteration(make, monkeypatch):
    run = make("SOLVER.MAX_ITER", 5)
    run.register_hooks([Fault()])
    monkeypatch.setattr(FeatureProbe, "evaluate", lambda self: pytest.fail("probed"))
    with pytest.raises(ZeroDivisionError):
        train(run)


def test_a_collapse_shows(make):
    run = make()
    (hook,) = [hook for hook in run._hooks if hasattr(hook, "_func")]
    before = hook._func()
    with torch.no_grad():
        for parameter in run.checkpointer.model.encoder.stage1.parameters():
            parameter.zero_()  # whatever the image is
    after = hook._func()
    assert before["features"]["rank"] > 1.5 and after["features"]["rank"] == pytest.approx(1, abs=1e-2)
    assert math.isclose(after["probe"]["colours"]["rank"], 1, abs_tol=1e-2)
    assert after["probe"]["colours"]["knn_top1"] == pytest.approx(100 / 3)


def test_damaged_images_are_named_once(make, folder):
    (folder / "train/red/2.png").write_bytes(b"no image")
    (folder / "test/blue/0.png").write_bytes(b"no image")
    train(make("TEST.PROBE_EPOCHS", 1.0))
    skipped = SkippedImageLog(folder / "out/skipped_images.log")
    assert skipped.count == 2 and len(read_metrics(folder / "out")) == 6


def test_data_are_checked_before_anything_is_written(make, folder):
    (folder / "new/green").mkdir(parents=True)
    (folder / "new/red").mkdir()
    for name in ("green", "red"):
        Image.new("RGB", (20, 20)).save(folder / f"new/{name}/1.png")
    train_part = str(folder / "train")
    with pytest.raises(InputError, match="gone doesn't exist"):
        make("TEST.PROBE", [["a", train_part, str(folder / "gone")]])
    with pytest.raises(InputError, match="images of green"):
        make("TEST.PROBE", [["a", train_part, str(folder / "new")]])
    for path in (folder / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0.png can't be read"):
        make()
    assert not (folder / "out").exists()
