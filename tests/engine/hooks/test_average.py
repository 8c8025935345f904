"""The averaged weights are the average of the weights, through interruptions, and are evaluated and saved."""

import json
import types

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from reference.interrupted import Interrupt, train_until
from reference.small import autoencoder_cfg, randomise
from torch import nn

from convmae_det.checkpoint import load_weights
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.hooks.average import build_average
from convmae_det.engine.pretraining import PretrainingTrainer
from convmae_det.engine.step import TrainingStep
from convmae_det.errors import InputError

DECAY = 0.5


class Model(nn.Module):
    """One weight that is trained, one that is frozen, a buffer that counts; the loss moves the first by 1 a step."""

    def __init__(self):
        super().__init__()
        self.weight, self.frozen = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.full((1,), 0.3), False)
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))

    def forward(self, batch):
        self.passes += 1
        return {"loss": -self.weight.sum() * batch[0]["slope"]}


def run(step, times):
    with EventStorage():
        for step.iter in range(times):
            step.run_step()


def steps(decay, slopes, **options):
    """The model and its average after one step for each slope."""
    model = Model()
    average = build_average(model, decay)
    optimizer = torch.optim.SGD([model.weight], lr=1.0)
    step = TrainingStep(model, ([{"slope": s}] for s in slopes), optimizer, average=average, **options)
    run(step, len(slopes) // step.accumulation_steps)
    return model, average


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.9999])
def test_the_average_follows_its_definition(decay):
    model, average = steps(decay, [1.0] * 6)
    expected = 1.0
    for n, weight in enumerate([2.0, 3.0, 4.0, 5.0, 6.0], start=1):
        kept = min(decay, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * weight
    assert model.weight.item() == 6
    assert average.module.weight.item() == pytest.approx(expected)
    assert torch.equal(average.module.frozen, model.frozen)
    assert average.module.passes == 6


def test_an_update_for_each_step_and_not_each_part():
    _, average = steps(DECAY, [1.0] * 6, accumulation_steps=3)
    assert average.n_averaged == 2


def test_a_skipped_update_is_not_averaged():
    """Float16 overflows: the scaler of a GPU skips the update; here one of the same behaviour stands in for it."""
    model = Model()
    average = build_average(model, DECAY)
    optimizer = torch.optim.SGD([model.weight], lr=1.0)
    factors = iter([1.0, torch.inf, 1.0])
    model.weight.register_hook(lambda gradient: gradient * next(factors))
    step = TrainingStep(model, ([{"slope": 1.0}] for _ in range(3)), optimizer, average=average)
    finite = lambda: bool(model.weight.grad.isfinite())  # noqa: E731
    step.scaler = types.SimpleNamespace(
        scale=lambda loss: loss,
        unscale_=lambda _: None,
        is_enabled=lambda: True,
        get_scale=lambda: 2.0**16,
        step=lambda optimizer: finite() and optimizer.step(),
        update=lambda: None,
    )
    step._require_finite = lambda *_: None
    run(step, 3)
    assert model.weight == 2 and average.n_averaged == 2


def test_no_decay_averages_nothing():
    assert build_average(Model(), 0.0) is None


def train(cfg, resume=False, interrupt=None, kind=DetectionTrainer):
    trainer = kind(cfg)
    trainer.register_hooks([Interrupt(interrupt)])
    trainer.resume_or_load(resume)
    train_until(trainer, interrupt)
    return trainer


def averaged(folder):
    return torch.load(folder / "model_final_ema.pth", weights_only=True)["model"]


def test_a_resumed_run_has_the_same_average(shapes_cfg, tmp_path):
    options = ("SOLVER.EMA.DECAY", 0.9, "DATASETS.TEST", (), "SOLVER.MAX_ITER", 5, "SOLVER.CHECKPOINT_PERIOD", 2)
    options += ("MODEL.CONVMAE.FREEZE_STAGES", 1)
    train(shapes_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    train(shapes_cfg(*options), interrupt=2)
    trainer = train(shapes_cfg(*options), resume=True)
    ours, theirs = averaged(tmp_path / "out"), averaged(tmp_path / "whole")
    plain = trainer.checkpointer.model.state_dict()
    assert ours.keys() == theirs.keys() == plain.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    differing = {name for name, value in plain.items() if not torch.equal(value, ours[name])}
    assert differing == {name for name, p in trainer.checkpointer.model.named_parameters() if p.requires_grad}


def test_an_average_begun_in_mid_run_starts_from_the_weights(shapes_cfg, caplog):
    options = ("DATASETS.TEST", (), "SOLVER.MAX_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 1)
    train(shapes_cfg(*options), interrupt=1)
    trainer = DetectionTrainer(shapes_cfg(*options, "SOLVER.EMA.DECAY", 0.9))
    with caplog.at_level("WARNING", "convmae_det"):
        trainer.resume_or_load(True)
    assert "SOLVER.EMA.DECAY" in caplog.text
    average, model = trainer._trainer.average.module.state_dict(), trainer.checkpointer.model.state_dict()
    assert all(torch.equal(value, average[name]) for name, value in model.items())
    trainer.train()
    train(shapes_cfg(*options), resume=True)  # and without it again


def test_it_is_evaluated_and_may_be_the_best(shapes_cfg, tmp_path):
    options = ("SOLVER.MAX_ITER", 3, "SOLVER.EMA.DECAY", 0.9, "TEST.BEST_METRIC", "ema/bbox/AP")
    trainer = train(shapes_cfg(*options, "SOLVER.BASE_LR", 1e-2))
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    (row,) = [line for line in lines if "ema/bbox/AP" in line]
    assert {"bbox/AP", "segm/AP", "ema/segm/AP50"} <= row.keys()
    for name in ("model_final_ema.pth", "model_best.pth"):
        results = DetectionTrainer.evaluate(shapes_cfg("MODEL.WEIGHTS", str(tmp_path / "out" / name)))
        assert results["bbox"]["AP"] == row["ema/bbox/AP"]
        other = DetectionTrainer.build_model(trainer.cfg)
        load_weights(other, tmp_path / "out" / name)
        expected = trainer._trainer.average.module.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in other.state_dict().items())


@pytest.fixture
def pretraining_cfg(shapes_cfg, tmp_path):
    def make(*options):
        cfg = autoencoder_cfg("SEED", 3, "OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0)
        cfg.merge_from_list(["DATASETS.TRAIN", ("shapes_train",), "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2])
        cfg.merge_from_list(list(options))
        return cfg

    return make


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_pretraining_begun_from_weights_of_another_grid_resumes_exactly(pretraining_cfg, tmp_path, decay):
    """Its fixed position tables are those of the weights, in the average too, which starts from these weights."""
    begun = randomise(build_model(autoencoder_cfg("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 96)))
    torch.save({"model": begun.state_dict()}, tmp_path / "begun.pth")
    options = ("MODEL.WEIGHTS", str(tmp_path / "begun.pth"), "SOLVER.EMA.DECAY", decay)
    options += ("SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2)
    trainer = PretrainingTrainer(pretraining_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    trainer.resume_or_load(False)
    for model in [trainer.checkpointer.model, *([trainer._trainer.average.module] if decay else [])]:
        assert all(torch.equal(value, begun.state_dict()[name]) for name, value in model.state_dict().items())
    trainer.train()
    train(pretraining_cfg(*options), interrupt=2, kind=PretrainingTrainer)
    train(pretraining_cfg(*options), resume=True, kind=PretrainingTrainer)
    for name in ("model_final.pth", "model_final_ema.pth") if decay else ("model_final.pth",):
        ours, theirs = (torch.load(f / name, weights_only=True)["model"] for f in (tmp_path, tmp_path / "whole"))
        assert ours["decoder.position_embedding.table"].shape == (1, 6, 6, 16)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_an_average_of_another_model_is_not_resumed(pretraining_cfg, tmp_path):
    options = ("SOLVER.EMA.DECAY", 0.9, "SOLVER.MAX_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 1)
    train(pretraining_cfg(*options), interrupt=1, kind=PretrainingTrainer)
    path = tmp_path / "model_0000000.pth"
    (tmp_path / "last_checkpoint").write_text(path.name)
    content = torch.load(path, weights_only=True)
    for name in ("n_averaged", "module.decoder.mask_token"):
        damaged = torch.load(path, weights_only=True)
        del damaged["trainer"]["_trainer"]["average"][name]
        torch.save(damaged, path)
        with pytest.raises(InputError, match=f"average .*: {name.removeprefix('module.')}: not in the file"):
            PretrainingTrainer(pretraining_cfg(*options)).resume_or_load(True)
        torch.save(content, path)
    PretrainingTrainer(pretraining_cfg(*options)).resume_or_load(True)


def test_pretraining_saves_it_too(tmp_path, shapes_cfg, pretraining_cfg):
    trainer = PretrainingTrainer(pretraining_cfg("SOLVER.EMA.DECAY", 0.9))
    trainer.train()
    expected = trainer._trainer.average.module.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in averaged(tmp_path).items())
    detector = DetectionTrainer.build_model(shapes_cfg())
    report = load_weights(detector, tmp_path / "model_final_ema.pth")
    assert "pretraining" in str(report)
