"""Runs: interrupted and resumed, finished, evaluated, and begun where another run has been."""

import json
import logging
import math
import re

import pytest
import torch
import yaml
from detectron2.engine import HookBase
from reference.small import detector_cfg

from convmae_det import precision
from convmae_det.data.configuration import read_config
from convmae_det.data.shapes import register_shapes, write_shapes
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.launch import set_up_logging
from convmae_det.engine.output_folder import complete_last_line
from convmae_det.errors import InputError, TrainingError

DATA = ("shapes_train", "shapes_val")


@pytest.fixture(scope="module", autouse=True)
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, train=6, val=2, size=64)
    register_shapes(root)
    yield
    register_shapes()


@pytest.fixture
def make_cfg(tmp_path):
    def make_cfg(*options, seed=3):
        cfg = detector_cfg("SEED", seed, "OUTPUT_DIR", str(tmp_path / "out"), "DATALOADER.NUM_WORKERS", 0)
        cfg.merge_from_list(["DATASETS.TRAIN", DATA[:1], "DATASETS.TEST", (), "MODEL.CONVMAE.DROP_PATH_RATE", 0.2])
        cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.WARMUP_ITERS", 2])
        cfg.merge_from_list(["SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2, *options])
        return cfg

    return make_cfg


class Recorder(HookBase):
    """Losses and learning rate of each iteration; `stop_after` an iteration, as Ctrl-C does."""

    def __init__(self, stop_after=None):
        self.stop_after, self.losses, self.rates = stop_after, {}, {}

    def before_step(self):
        self.rates[self.trainer.iter] = self.trainer.optimizer.param_groups[-1]["lr"]

    def after_step(self):
        latest = self.trainer.storage.latest()
        self.losses[self.trainer.iter] = {name: value for name, (value, _) in latest.items() if "loss" in name}
        if self.trainer.iter == self.stop_after:
            raise KeyboardInterrupt


def train(cfg, resume=False, stop_after=None):
    trainer, recorder = DetectionTrainer(cfg), Recorder(stop_after)
    trainer.register_hooks([recorder])
    trainer.resume_or_load(resume)
    if stop_after is None:
        trainer.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    return trainer, recorder


def weights(trainer):
    return trainer.checkpointer.model.state_dict()


def test_a_resumed_run_equals_one_that_never_stopped(make_cfg, tmp_path):
    options = ["SOLVER.ACCUMULATION_STEPS", 2, "SOLVER.MAX_ITER", 5]
    whole, recorded = train(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    _, first = train(make_cfg(*options), stop_after=2)
    resumed, second = train(make_cfg(*options), resume=True)
    assert sorted(first.losses) == [0, 1, 2] and sorted(second.losses) == [2, 3, 4]
    assert first.losses | second.losses == recorded.losses
    assert second.losses[2] == first.losses[2]
    assert first.rates | second.rates == recorded.rates
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


def test_a_drawn_seed_is_kept_for_the_whole_run(make_cfg, tmp_path):
    first, _ = train(make_cfg(seed=-1), stop_after=1)
    resumed, recorded = train(make_cfg(seed=-1), resume=True)
    assert resumed.cfg.SEED == first.cfg.SEED >= 0
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text())["SEED"] == first.cfg.SEED
    _, same = train(make_cfg("OUTPUT_DIR", str(tmp_path / "whole"), seed=first.cfg.SEED))
    assert recorded.losses[3] == same.losses[3]
    other = DetectionTrainer(make_cfg(seed=-1))
    assert other.cfg.SEED != first.cfg.SEED


def test_a_resumed_run_takes_learning_rates_from_the_configuration(make_cfg):
    _, first = train(make_cfg("SOLVER.BASE_LR", 1e-3), stop_after=1)
    _, second = train(make_cfg("SOLVER.BASE_LR", 1e-4), resume=True)
    assert first.rates[1] == pytest.approx(1e-3 * (0.001 + 1) / 2)
    assert second.rates[2] == pytest.approx(1e-4)


def test_a_checkpoint_holds_tensors_and_plain_values_alone(make_cfg, tmp_path):
    train(make_cfg("SOLVER.AMP.ENABLED", True))
    content = torch.load(tmp_path / "out/model_final.pth", weights_only=True)
    assert content["iteration"] == 3
    assert content["trainer"]["_trainer"]["seed"] == 3
    assert sorted(p.name for p in (tmp_path / "out").glob("model_*")) == [
        "model_0000001.pth",
        "model_0000003.pth",
        "model_final.pth",
    ]


# --- precision

MIXED = ("SOLVER.AMP.ENABLED", True)


@pytest.fixture
def processor(monkeypatch):
    """``processor(has_bfloat16)``: this machine from now on."""
    return lambda has: monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: has)


class Watch(HookBase):
    """The types inside the network, in training and in evaluation."""

    def before_train(self):
        self.seen = {True: set(), False: set()}
        self.trainer.checkpointer.model.roi_heads.box_head.register_forward_hook(self._see)

    def _see(self, module, inputs, output):
        self.seen[module.training].add(output.dtype)


def lines(caplog, start):
    return [record for record in caplog.records if record.getMessage().startswith(start)]


def test_auto_without_bfloat16_is_float32_bit_for_bit(make_cfg, processor, tmp_path, caplog):
    processor(False)
    with caplog.at_level(logging.INFO, "convmae_det"):
        auto, recorded = train(make_cfg(*MIXED))
    (line,) = lines(caplog, "Precision")
    assert (
        line.getMessage()
        == "Precision: float32, because this processor has no bfloat16 instructions (SOLVER.AMP.DTYPE auto)"
    )
    single, expected = train(make_cfg("OUTPUT_DIR", str(tmp_path / "single")))
    assert recorded.losses == expected.losses
    assert all(torch.equal(value, weights(auto)[name]) for name, value in weights(single).items())


@pytest.mark.parametrize(
    ("has", "options", "training", "evaluation"),
    [
        (True, MIXED, torch.bfloat16, torch.bfloat16),
        (False, MIXED, torch.float32, torch.float32),
        (True, (*MIXED, "TEST.PRECISION", "float32"), torch.bfloat16, torch.float32),
        (True, ("TEST.PRECISION", "bfloat16"), torch.float32, torch.bfloat16),
        (False, (*MIXED, "SOLVER.AMP.DTYPE", "bfloat16"), torch.bfloat16, torch.float32),  # not emulated unasked
    ],
)
def test_training_and_evaluation_have_their_precision(
    make_cfg, processor, caplog, tmp_path, has, options, training, evaluation
):
    processor(has)
    cfg = make_cfg(*options, "SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 1, "DATASETS.TEST", DATA[1:])
    trainer, watch = DetectionTrainer(cfg), Watch()
    trainer.register_hooks([watch])
    with caplog.at_level(logging.INFO, "convmae_det"):
        trainer.train()
    assert watch.seen == {True: {training}, False: {evaluation}}
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text())["SOLVER"]["AMP"]["DTYPE"] == cfg.SOLVER.AMP.DTYPE


def test_emulated_precision_is_warned_of_once(make_cfg, processor, caplog):
    processor(False)
    with caplog.at_level(logging.INFO, "convmae_det"):
        train(make_cfg(*MIXED, "SOLVER.AMP.DTYPE", "bfloat16", "SOLVER.MAX_ITER", 1))
    (line,) = lines(caplog, "Precision")
    assert line.getMessage() == "Precision: bfloat16, as SOLVER.AMP.DTYPE says"
    (warning,) = lines(caplog, "SOLVER.AMP.DTYPE bfloat16 is emulated")
    assert warning.levelno == logging.WARNING


def test_a_run_that_is_only_evaluated_says_its_precision(make_cfg, processor, caplog, tmp_path):
    processor(True)
    cfg = make_cfg("DATASETS.TEST", DATA[1:], "MODEL.WEIGHTS", str(tmp_path / "model.pth"))
    torch.save({"model": DetectionTrainer.build_model(cfg).state_dict()}, tmp_path / "model.pth")
    for options, sentence in (
        (MIXED, "bfloat16, which this processor has (SOLVER.AMP.DTYPE auto)"),
        (("TEST.PRECISION", "float32"), "float32, as TEST.PRECISION says"),
    ):
        cfg.merge_from_list(list(options))
        caplog.clear()
        with caplog.at_level(logging.INFO, "convmae_det"):
            DetectionTrainer.evaluate(cfg)
        assert [line.getMessage() for line in lines(caplog, "Precision")] == [f"Precision: {sentence}"]


@pytest.mark.parametrize("name", ["half", "float16"])
def test_a_precision_of_evaluations_that_will_not_do_ends_a_run_before_it_starts(make_cfg, name):
    with pytest.raises(InputError, match=rf"TEST\.PRECISION .*{name}"):
        DetectionTrainer(make_cfg("TEST.PRECISION", name))


def test_a_run_resumes_on_a_machine_with_another_precision(make_cfg, processor):
    processor(True)
    _, first = train(make_cfg(*MIXED), stop_after=1)
    processor(False)
    _, second = train(make_cfg(*MIXED), resume=True)
    assert sorted(first.losses | second.losses) == [0, 1, 2, 3]


def test_resuming_without_a_checkpoint_begins_and_says_so(make_cfg, caplog):
    with caplog.at_level(logging.WARNING, "convmae_det"):
        _, recorded = train(make_cfg("SOLVER.MAX_ITER", 1), resume=True)
    assert sorted(recorded.losses) == [0]
    assert "has no checkpoint yet" in caplog.text and "random weights" in caplog.text


def test_resuming_a_finished_run_evaluates_it(make_cfg, caplog):
    cfg = make_cfg("DATASETS.TEST", DATA[1:], "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    train(cfg)
    trainer = DetectionTrainer(cfg)
    trainer.resume_or_load(resume=True)
    with caplog.at_level(logging.INFO, "convmae_det"):
        results = trainer.train()
    assert "ended after 4 iterations" in caplog.text
    assert "shapes_val: box AP" in caplog.text and "mask AP" in caplog.text
    evaluated = DetectionTrainer.evaluate(cfg, resume=True)
    assert str(evaluated) == str(results)  # NaN, for want of small objects, is not equal to itself
    cfg.MODEL.WEIGHTS = trainer.checkpointer.get_checkpoint_file()
    assert str(DetectionTrainer.evaluate(cfg)) == str(results)
    assert results["bbox"]["AP"] >= 0


def test_a_detector_that_finds_nothing_is_evaluated(make_cfg, caplog):
    cfg = make_cfg("DATASETS.TEST", DATA[1:], "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)
    with caplog.at_level(logging.INFO, "convmae_det"):
        results = DetectionTrainer.test(cfg, DetectionTrainer.build_model(cfg))
    assert results["bbox"]["AP"] == results["segm"]["AP"] == 0
    assert "shapes_val: box AP 0.0, mask AP 0.0" in caplog.text


def test_weights_of_another_model_are_not_evaluated_or_resumed(make_cfg):
    train(make_cfg("SOLVER.MAX_ITER", 1))
    other = make_cfg("DATASETS.TEST", DATA[1:], "MODEL.FPN.OUT_CHANNELS", 8)
    with pytest.raises(InputError, match="model_final.pth"):
        DetectionTrainer.evaluate(other, resume=True)
    with pytest.raises(InputError, match="model_final.pth"):
        DetectionTrainer(other).resume_or_load(resume=True)
    frozen = make_cfg("MODEL.CONVMAE.FREEZE_STAGES", 2)
    with pytest.raises(InputError, match="trained other parameters"):
        DetectionTrainer(frozen).resume_or_load(resume=True)


def test_evaluation_needs_weights_of_the_whole_model(make_cfg, tmp_path):
    cfg = make_cfg("DATASETS.TEST", DATA[1:])
    with pytest.raises(InputError, match=r"MODEL\.WEIGHTS is ''; it must"):
        DetectionTrainer.evaluate(cfg)
    state = DetectionTrainer.build_model(cfg).state_dict()
    path = tmp_path / "half.pth"
    torch.save({"model": {name: value for name, value in state.items() if "roi_heads" not in name}}, path)
    cfg.MODEL.WEIGHTS = str(path)
    with pytest.raises(InputError, match=r"half\.pth .*lacks \d+ weights"):
        DetectionTrainer.evaluate(cfg)
    cfg.DATASETS.TEST = ()
    with pytest.raises(InputError, match=r"DATASETS\.TEST is \(\); it must"):
        DetectionTrainer.evaluate(cfg)


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["SOLVER.BASE_LR", 0.0], r"SOLVER\.BASE_LR is 0\.0; it must"),
        (["SOLVER.EMA.DECAY", 2.0], r"SOLVER\.EMA\.DECAY is 2\.0; it must"),
        (["INPUT.LSJ.MIN_SCALE", -1.0], r"INPUT\.LSJ\.MIN_SCALE is -1\.0; it must"),
        (["DATALOADER.NUM_WORKERS", -2], r"DATALOADER\.NUM_WORKERS is -2; it must"),
        (["DATASETS.TEST", DATA[1:], "INPUT.MAX_SIZE_TEST", 0], r"INPUT\.MAX_SIZE_TEST is 0; it must"),
        (["DATASETS.TEST", DATA[1:], "TEST.EVAL_EPOCHS", -1.0], r"TEST\.EVAL_EPOCHS is -1\.0; it must"),
        (["DATASETS.TEST", ("shapes_vall",)], "'shapes_vall' is not registered: did you mean shapes_val"),
        (["MODEL.META_ARCHITECTURE", "MaskedAutoencoder"], r"META_ARCHITECTURE is 'MaskedAutoencoder'; it must be a d"),
    ],
)
def test_what_is_wrong_is_said_before_data_are_read(make_cfg, monkeypatch, options, sentence):
    def read(cfg):
        raise AssertionError("data are read")

    monkeypatch.setattr(DetectionTrainer, "build_train_dataset", staticmethod(read))
    with pytest.raises(InputError, match=sentence):
        DetectionTrainer(make_cfg(*options))
    with pytest.raises(AssertionError, match="data are read"):
        DetectionTrainer(make_cfg())


def test_missing_weights_are_named(make_cfg):
    with pytest.raises(InputError, match=r"nowhere\.pth"):
        DetectionTrainer(make_cfg("MODEL.WEIGHTS", "nowhere.pth")).resume_or_load(resume=False)


def test_another_run_in_the_same_folder_is_set_aside(make_cfg, tmp_path, caplog):
    out = tmp_path / "out"
    train(make_cfg("SOLVER.MAX_ITER", 1))
    old = (out / "model_final.pth").read_bytes()
    cfg = make_cfg("SOLVER.MAX_ITER", 1, "MODEL.WEIGHTS", str(out / "model_final.pth"), seed=4)
    with caplog.at_level(logging.WARNING, "convmae_det"):
        train(cfg)
    assert "previous_run_1" in caplog.text
    assert (out / "previous_run_1/model_final.pth").read_bytes() == old
    for folder in (out, out / "previous_run_1"):
        (line,) = (folder / "metrics.json").read_text().splitlines()
        assert json.loads(line)["iteration"] == 0
    assert yaml.safe_load((out / "config.yaml").read_text())["SEED"] == 4
    train(cfg)
    assert (out / "previous_run_2/model_final.pth").exists()


class Spoiler(HookBase):
    """Makes the loss NaN from an iteration on."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            with torch.no_grad():
                self.trainer.checkpointer.model.roi_heads.box_predictor.cls_score.bias.fill_(math.nan)


def test_training_stops_at_a_bad_loss_and_the_last_checkpoint_is_good(make_cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(DetectionTrainer, "test", lambda *_: pytest.fail("evaluates a run that failed"))
    trainer = DetectionTrainer(make_cfg("DATASETS.TEST", DATA[1:]))
    trainer.register_hooks([Spoiler(3)])
    with pytest.raises(TrainingError, match=r"iteration 3.*loss_cls nan.*images .*\.png, .*\.png"):
        trainer.train()
    last = trainer.checkpointer.get_checkpoint_file()
    assert last == str(tmp_path / "out/model_0000001.pth")
    assert all(value.isfinite().all() for value in torch.load(last, weights_only=True)["model"].values())


def test_periodic_evaluation_reaches_the_metrics(make_cfg, tmp_path):
    cfg = make_cfg("DATASETS.TEST", DATA[1:], "TEST.EVAL_PERIOD", 2, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    train(cfg)
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "bbox/AP" in line] == [1, 4]
    assert {"total_loss", "lr", "grad_norm", "data_time"} <= set().union(*lines)


@pytest.mark.parametrize("before, after", [(b"", b""), (b"1\n", b"1\n"), (b"1\n2", b"1\n2\n"), (None, b"")])
def test_a_line_that_was_cut_off_ends(tmp_path, before, after):
    if before is not None:
        (tmp_path / "metrics.json").write_bytes(before)
    complete_last_line(str(tmp_path / "metrics.json"))
    assert (tmp_path / "metrics.json").read_bytes() == after


# --- what is set later wins


@pytest.mark.parametrize("resume", [True, False])
def test_the_configuration_of_a_run_takes_what_is_set_on_the_command_line(make_cfg, tmp_path, resume):
    _, first = train(make_cfg("SOLVER.MAX_ITER", 0, "SOLVER.MAX_EPOCHS", 1))
    assert sorted(first.losses) == [0, 1, 2]  # of 6 images, 2 in a step
    config = str(tmp_path / "out/config.yaml")
    longer, second = train(read_config(config, ["SOLVER.MAX_EPOCHS", "2"]), resume=resume)
    assert sorted(second.losses) == list(range(3 if resume else 0, 6))
    assert longer.cfg.SOLVER.STEPS == (5,)  # 8/9 of 6 iterations; 26/27 are all of them


def test_the_configuration_of_a_run_repeats_it_on_other_data(make_cfg, tmp_path):
    options = ("SOLVER.MAX_ITER", 0, "SOLVER.MAX_EPOCHS", 1, "TEST.EVAL_EPOCHS", 0.5)
    first, _ = train(make_cfg(*options))
    config = str(tmp_path / "out/config.yaml")
    again = DetectionTrainer(read_config(config, ["DATASETS.TRAIN", '("shapes_val",)']))
    assert len(again.dataset) == 2
    assert (again.cfg.SOLVER, again.cfg.TEST) == (first.cfg.SOLVER, first.cfg.TEST)
    assert (again.max_iter, again.cfg.TEST.EVAL_PERIOD) == (3, 2)


# --- test-time augmentation


def test_evaluation_obeys_test_time_augmentation(make_cfg):
    options = ["TEST.AUG.MIN_SIZES", (32, 64), "TEST.AUG.MAX_SIZE", 64, "DATASETS.TEST", DATA[1:], "SOLVER.MAX_ITER", 1]
    passes = []

    class Count(HookBase):
        def before_train(self):
            self.trainer.checkpointer.model.backbone.register_forward_hook(self._count)

        def _count(self, backbone, inputs, output):
            if not backbone.training:
                passes.append(inputs[0].shape[-1])

    for enabled in (False, True):
        trainer = DetectionTrainer(make_cfg(*options, "TEST.AUG.ENABLED", enabled))
        trainer.register_hooks([Count()])
        trainer.resume_or_load(False)
        assert "bbox" in trainer.train()
    assert sorted(passes) == [32] * 8 + [64] * (2 + 8)  # 2 images; mirrored or not, for boxes and for masks


def test_keys_that_do_nothing_are_named(make_cfg, caplog):
    with caplog.at_level(logging.WARNING, "convmae_det"):
        DetectionTrainer(make_cfg("MODEL.RETINANET.NUM_CONVS", 2, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 2.0))
    (line,) = lines(caplog, "These keys are set but do nothing here")
    assert line.getMessage().endswith(
        ": MODEL.RETINANET.NUM_CONVS is for MODEL.META_ARCHITECTURE RetinaNet; SOLVER.CLIP_GRADIENTS.CLIP_VALUE is for "
        "SOLVER.CLIP_GRADIENTS.ENABLED True"
    )


def test_a_line_comes_after_the_first_iteration(make_cfg, tmp_path):
    set_up_logging(str(tmp_path / "out"))
    train(make_cfg("SOLVER.MAX_ITER", 3))
    log = (tmp_path / "out/log.txt").read_text()
    assert [int(number) for number in re.findall(r"iteration (\d+) of 3, .*total_loss", log)] == [1, 3]
