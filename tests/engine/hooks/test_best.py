"""The best weights are those of the best evaluation, and training ends where it should, interrupted or not."""

import math

import pytest
import torch
from detectron2.utils.events import get_event_storage
from reference.interrupted import Interrupt, train_until

from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.hooks import best
from convmae_det.engine.hooks.evaluation import choose_best_metric
from convmae_det.errors import InputError

NAN = math.nan


@pytest.fixture
def fake_scores(monkeypatch):
    """``fake_scores([...])``: what the evaluations after 1, 2, … iterations find. Returns a list of when they were."""

    def set_scores(scores):
        evaluated = []

        def test(cls, cfg, model):
            iterations = min(get_event_storage().iter + 1, cfg.SOLVER.MAX_ITER)
            evaluated.append(iterations)
            score = scores[iterations - 1]
            return {"bbox": {"AP": 100 - score}, "segm": {"AP": score}}

        monkeypatch.setattr(DetectionTrainer, "test", classmethod(test))
        return evaluated

    return set_scores


@pytest.fixture
def train(shapes_cfg):
    def train(*options, resume=False, interrupt=None):
        """Returns the trainer; `interrupt`: the iteration whose evaluation isn't reached."""
        cfg = shapes_cfg("TEST.EVAL_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 1, *options)
        trainer = DetectionTrainer(cfg)
        if interrupt is not None:
            place = next(i for i, hook in enumerate(trainer._hooks) if type(hook).__name__ == "EvaluationHook")
            trainer.register_hooks([Interrupt(interrupt)])
            trainer._hooks.insert(place, trainer._hooks.pop())
        trainer.resume_or_load(resume)
        train_until(trainer, interrupt)
        return trainer

    return train


@pytest.fixture(scope="module")
def whole():
    """By scores: when an undisturbed run was evaluated, and its files. Filled by the first test that needs them."""
    return {}


def load(path):
    return torch.load(path, weights_only=True)


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(
    "scores, iterations, value",
    [([5, 9, 7], 2, 9), ([5, 9, 9], 2, 9), ([NAN, 4, NAN], 2, 4), ([0, 0, 1], 3, 1), ([0, 0, 0], 1, 0)],
)
def test_the_file_holds_the_weights_of_the_best_evaluation(train, fake_scores, tmp_path, scores, iterations, value):
    fake_scores(scores)
    train("SOLVER.MAX_ITER", 3)
    content = load(tmp_path / "out/model_best.pth")
    assert content["best"] == {"metric": "segm/AP", "value": value, "iterations": iterations}
    assert_same_weights(content["model"], load(tmp_path / f"out/model_000000{iterations - 1}.pth")["model"])
    assert (tmp_path / "out/last_checkpoint").read_text() == "model_final.pth"


def test_without_any_number_there_is_no_file(train, fake_scores, tmp_path):
    fake_scores([NAN, NAN])
    train("SOLVER.MAX_ITER", 2, "TEST.PATIENCE", 1)
    assert not (tmp_path / "out/model_best.pth").exists() and (tmp_path / "out/model_final.pth").exists()


def test_another_metric(train, fake_scores, tmp_path):
    fake_scores([5, 9, 7])
    train("SOLVER.MAX_ITER", 3, "TEST.BEST_METRIC", "bbox/AP")
    assert load(tmp_path / "out/model_best.pth")["best"]["iterations"] == 1


def test_the_final_evaluation_alone(train, fake_scores, tmp_path):
    assert fake_scores([5, 9]) == []
    train("SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 0)
    content, final = (load(tmp_path / f"out/model_{name}.pth") for name in ("best", "final"))
    assert_same_weights(content["model"], final["model"])


def test_it_has_the_ap_that_it_was_chosen_for(train, shapes_cfg, tmp_path):
    train("SOLVER.MAX_ITER", 2, "SOLVER.BASE_LR", 1e-2)
    path = str(tmp_path / "out/model_best.pth")
    results = DetectionTrainer.evaluate(shapes_cfg("MODEL.WEIGHTS", path))
    assert results["segm"]["AP"] == load(path)["best"]["value"]
    (tmp_path / "out/last_checkpoint").write_text("model_best.pth")
    with pytest.raises(InputError, match=r"model_best\.pth holds weights alone"):
        train("SOLVER.MAX_ITER", 2, resume=True)


@pytest.mark.parametrize(
    "scores, interrupt",
    [
        ([5, 9, 7, 8, 0, 0], 0),
        ([5, 9, 7, 8, 0, 0], 1),  # the evaluation that finds the best
        ([5, 9, 7, 8, 0, 0], 2),
        ([5, 9, 7, 8, 0, 0], 3),  # the one that ends training
        ([5, 4, 9, 3, 8, 0], 2),
        ([1, 2, 3, 4, 5, 6], 4),
    ],
)
def test_an_interrupted_run_has_the_best_and_the_end_of_another(train, fake_scores, whole, tmp_path, scores, interrupt):
    options = ("SOLVER.MAX_ITER", 6, "TEST.PATIENCE", 2)
    if str(scores) not in whole:
        evaluated = fake_scores(scores)
        train(*options, "OUTPUT_DIR", str(tmp_path / "whole"))
        files = {name: load(tmp_path / f"whole/{name}") for name in ("model_best.pth", "model_final.pth")}
        whole[str(scores)] = evaluated, files
    expected, files = whole[str(scores)]
    evaluated = fake_scores(scores)
    train(*options, interrupt=interrupt)
    train(*options, resume=True)
    assert evaluated == expected
    ours = {name: load(tmp_path / f"out/{name}") for name in files}
    assert ours["model_best.pth"]["best"] == files["model_best.pth"]["best"]
    for name, content in files.items():
        assert_same_weights(ours[name]["model"], content["model"])
    assert ours["model_final.pth"]["iteration"] == expected[-1] - 1


def test_a_run_that_stopped_early_is_complete_until_patience_grows(train, fake_scores, tmp_path, caplog):
    evaluated = fake_scores([5, 9, 7, 8, 6, 10])
    options = ("SOLVER.MAX_ITER", 6, "TEST.PATIENCE")
    with caplog.at_level("INFO", "convmae_det"):
        train(*options, 2)
    assert "2 evaluations up to iteration 4 of 6 were not better than segm/AP 9.00 after 2 iterations" in caplog.text
    assert "out/model_best.pth" in caplog.text
    assert (tmp_path / "out/last_checkpoint").read_text() == "model_final.pth"
    final = load(tmp_path / "out/model_final.pth")
    assert final["iteration"] == 3
    caplog.clear()
    with caplog.at_level("INFO", "convmae_det"):
        train(*options, 2, resume=True)
    assert "the run is complete" in caplog.text
    assert evaluated == [1, 2, 3, 4, 4]
    assert str(load(tmp_path / "out/model_final.pth")) == str(final)
    train(*options, 4, resume=True)
    assert evaluated[5:] == [4, 5, 6]
    assert load(tmp_path / "out/model_best.pth")["best"]["value"] == 10


def test_an_interrupted_final_evaluation_is_made_up_for(train, fake_scores, tmp_path):
    fake_scores([5, 9])
    train("SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 0, interrupt=1)
    assert not (tmp_path / "out/model_best.pth").exists()
    train("SOLVER.MAX_ITER", 2, "TEST.EVAL_PERIOD", 0, resume=True)
    assert load(tmp_path / "out/model_best.pth")["best"] == {"metric": "segm/AP", "value": 9, "iterations": 2}


def test_all_processes_do_as_the_main_one(monkeypatch):
    """The others have no results."""
    hook = best.EarlyStoppingHook(1, 1, None)
    monkeypatch.setattr(best.comm, "all_gather", lambda reason: ["what the main process found", reason])
    hook.trainer = type("Trainer", (), {"iter": 0, "max_iter": 9, "save_final": lambda _: None})()
    with pytest.raises(best.TrainingStopped, match="main process"):
        hook.after_step()


@pytest.mark.parametrize(
    "options, name",
    [
        ([], "segm/AP"),
        (["MODEL.MASK_ON", False], "bbox/AP"),
        (["DATASETS.TEST", ("shapes_val", "shapes_train")], "shapes_val/segm/AP"),
        (["DATASETS.TEST", ()], ""),
        (["TEST.BEST_METRIC", "bbox/AP75"], "bbox/AP75"),
        (["TEST.BEST_METRIC", "bbox/AP-disk"], None),
        (["TEST.BEST_METRIC", "ema/bbox/AP", "SOLVER.EMA.DECAY", 0.9], "ema/bbox/AP"),
        (["TEST.BEST_METRIC", "ema/bbox/AP"], None),
        (["TEST.BEST_METRIC", "segm/AP", "MODEL.MASK_ON", False], None),
        (["TEST.BEST_METRIC", "AP"], None),
    ],
)
def test_names_of_metrics(shapes_cfg, options, name):
    cfg = shapes_cfg(*options)
    if name is None:
        with pytest.raises(InputError, match=r"TEST\.BEST_METRIC is .*, which is not computed: choose bbox"):
            choose_best_metric(cfg)
    else:
        assert choose_best_metric(cfg) == name


def test_names_are_those_of_the_evaluation(train, shapes_cfg, tmp_path):
    """Real metrics of several data sets, of the averaged weights and of one class."""
    train("SOLVER.MAX_ITER", 1, "SOLVER.EMA.DECAY", 0.9, "DATASETS.TEST", ("shapes_val", "shapes_train"))
    lines = (tmp_path / "out/metrics.json").read_text()
    cfg = shapes_cfg("SOLVER.EMA.DECAY", 0.9, "DATASETS.TEST", ("shapes_val", "shapes_train"))
    for name in ("ema/shapes_val/bbox/AP50", "shapes_train/segm/AP", "shapes_val/segm/AP-star"):
        assert f'"{name}"' in lines
        cfg.TEST.BEST_METRIC = name
        assert choose_best_metric(cfg) == name


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["TEST.PATIENCE", -1], r"TEST\.PATIENCE is -1"),
        (["TEST.EVAL_PERIOD", -2], r"TEST\.EVAL_PERIOD is -2"),
        (["TEST.EVAL_EPOCHS", -0.5], r"TEST\.EVAL_EPOCHS is -0\.5"),
        (["TEST.PATIENCE", 2], r"TEST\.PATIENCE is 2; it must be 0 where there are no evaluations"),
        (["TEST.PATIENCE", 2, "TEST.EVAL_PERIOD", 2, "DATASETS.TEST", ()], "there are no evaluations"),
        (["TEST.BEST_METRIC", "mAP"], r"TEST\.BEST_METRIC is mAP"),
    ],
)
def test_bad_values_are_named(shapes_cfg, options, sentence):
    with pytest.raises(InputError, match=sentence):
        DetectionTrainer(shapes_cfg(*options))


@pytest.mark.parametrize("epochs, iterations", [(0.5, 2), (1, 4), (0.1, 1), (0, 3)])
def test_epochs_become_iterations(shapes_cfg, epochs, iterations):
    cfg = DetectionTrainer(shapes_cfg("TEST.EVAL_EPOCHS", float(epochs), "TEST.EVAL_PERIOD", 3)).cfg
    assert (cfg.TEST.EVAL_PERIOD, cfg.TEST.EVAL_EPOCHS) == (iterations, 0)
