"""SOLVER.IMS_PER_BATCH auto is a power of two that fits, no more than the recipe's, and stays that of the run."""

import logging

import pytest
import torch
import yaml
from engine.test_pass_size import gpu  # noqa: F401
from engine.test_trainer import make_cfg, shapes, train, weights  # noqa: F401
from reference.small import autoencoder_cfg, segmentor_cfg

from convmae_det.config.checks.training import check_pretraining
from convmae_det.config.keys import AUTO, set_keys
from convmae_det.engine import batch_size, host_pass_size
from convmae_det.engine.batch_size import choose_batch, keep_batch
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.errors import InputError
from convmae_det.inference.model import build_model

BATCH, REFERENCE = "SOLVER.IMS_PER_BATCH", "SOLVER.REFERENCE_BATCH_SIZE"


def build(cfg):
    model = torch.nn.Linear(1, 1)
    return model.to(cfg.MODEL.DEVICE)


def choose(cfg, images=1000):
    return choose_batch(cfg, images, build).SOLVER.IMS_PER_BATCH


@pytest.mark.parametrize(
    "gib, reference, images, batch",
    [
        (20, 256, 1000, 16 * 2),  # 17 images fit, beside 1 GiB, in each of two processes
        (12, 256, 1000, 8 * 2),
        (20, 16, 1000, 8 * 2),  # the recipe's batch
        (20, 24, 1000, 8 * 2),
        (20, 256, 9, 4 * 2),  # of 9 images
        (20, 1, 1, 1 * 2),  # each process has an image
    ],
)
def test_the_batch_is_what_fits_in_the_recipe(gpu, monkeypatch, caplog, gib, reference, images, batch):  # noqa: F811
    gpu(gib)
    monkeypatch.setattr(batch_size.comm, "get_world_size", lambda: 2)
    with caplog.at_level(logging.INFO, "convmae_det"):
        assert choose(autoencoder_cfg(BATCH, AUTO, REFERENCE, reference), images) == batch
    assert f"SOLVER.IMS_PER_BATCH auto: {batch} images, {batch // 2} for each process" in caplog.text


def test_a_limit_of_a_pass_is_one_of_the_batch(gpu):  # noqa: F811
    gpu(40)
    options = (BATCH, AUTO, REFERENCE, 256, "SOLVER.MAX_IMS_PER_PASS")
    assert choose(autoencoder_cfg(*options, 5)) == 4
    assert choose(autoencoder_cfg(*options, AUTO)) == choose(autoencoder_cfg(*options, 0)) == 32


def test_one_image_that_does_not_fit_is_said(gpu):  # noqa: F811
    gpu(1)
    with pytest.raises(InputError, match="SOLVER.IMS_PER_BATCH auto: not even one image fits the 1.0 GiB"):
        choose(autoencoder_cfg(BATCH, AUTO, REFERENCE, 16))


def test_a_cpu_takes_the_recipe_where_it_fits(caplog):
    with caplog.at_level(logging.INFO, "convmae_det"):
        assert choose_batch(autoencoder_cfg(BATCH, AUTO, REFERENCE, 8), 1000, build_model).SOLVER.IMS_PER_BATCH == 8
    assert f"{BATCH} auto: 8 images, 8 for each process (what fits one pass; a power of two" in caplog.text
    assert choose(autoencoder_cfg(BATCH, 3)) == 3


def test_a_cpu_takes_what_fits(monkeypatch):
    monkeypatch.setattr(host_pass_size, "read_available", lambda: 8 << 30)
    monkeypatch.setattr(host_pass_size, "measure_growth", lambda run, images, room, before: images << 30)
    assert choose(autoencoder_cfg(BATCH, AUTO, REFERENCE, 16)) == 4  # of six
    assert choose(autoencoder_cfg(BATCH, AUTO, REFERENCE, 16), images=3) == 2
    monkeypatch.setattr(host_pass_size, "read_available", lambda: 1 << 30)
    assert choose(autoencoder_cfg(BATCH, AUTO, REFERENCE, 16)) == 1
    assert choose(segmentor_cfg(BATCH, AUTO, REFERENCE, 8)) == 2  # batch norm needs two


def test_the_word_is_a_value_of_the_key():
    cfg = autoencoder_cfg()
    set_keys(cfg, "", [BATCH, "auto"])
    assert cfg.SOLVER.IMS_PER_BATCH == AUTO


@pytest.mark.parametrize(
    "options, sentence",
    [
        ((REFERENCE, 0), r"REFERENCE_BATCH_SIZE is 0; it must be above 0 where SOLVER\.IMS_PER_BATCH is auto"),
        (("SOLVER.ACCUMULATION_STEPS", 2), r"ACCUMULATION_STEPS is 2; it must be 0 or 1 where"),
        (("SOLVER.MAX_IMS_PER_PASS", -3), r"MAX_IMS_PER_PASS is -3; it must"),
    ],
)
def test_what_does_not_go_with_it_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        check_pretraining(autoencoder_cfg(BATCH, AUTO, *options), 1)


def test_a_resumed_run_keeps_its_batch(make_cfg, tmp_path, monkeypatch):  # noqa: F811
    options = (BATCH, AUTO, REFERENCE, 2)
    first, recorded = train(make_cfg(*options), stop_after=1)
    written = yaml.safe_load((tmp_path / "out/config.yaml").read_text())["SOLVER"]
    assert first.cfg.SOLVER.IMS_PER_BATCH == written["IMS_PER_BATCH"] == 2
    assert max(recorded.rates.values()) == written["BASE_LR"] * 0.5005  # in the warm-up
    other = make_cfg(*options[:2], REFERENCE, 4)  # of which four fit
    assert DetectionTrainer.start(other, resume=True).cfg.SOLVER.IMS_PER_BATCH == 2
    assert DetectionTrainer(other).cfg.SOLVER.IMS_PER_BATCH == 4
    (tmp_path / "out/config.yaml").write_text("SOLVER: {MAX_ITER: 4}\n")
    with pytest.raises(InputError, match=r"config\.yaml doesn't say how many images the run to resume had"):
        keep_batch(other)
    (tmp_path / "out/last_checkpoint").unlink()
    assert keep_batch(other) is other
