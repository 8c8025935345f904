"""A classifier is trained, resumed and evaluated as a detector is."""

import json
from functools import partial

import pytest
import torch
from PIL import Image
from reference.colours import build_colours_cfg, write_colours

from convmae_det.cli.train import train
from convmae_det.engine.classification import ClassificationTrainer
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.tasks import choose_trainer
from convmae_det.errors import InputError


@pytest.fixture(scope="session")
def colours_folder(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture
def colours_cfg(colours_folder, tmp_path):
    return partial(build_colours_cfg, colours_folder, tmp_path / "out")


def run(cfg, resume=False):
    trainer = ClassificationTrainer(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def read_weights(folder, name="model_final"):
    return torch.load(folder / f"{name}.pth", weights_only=True)


def test_it_learns_what_is_easy(colours_cfg, tmp_path):
    cfg = colours_cfg("SOLVER.MAX_EPOCHS", 24, "SOLVER.BASE_LR", 3e-3, "TEST.EVAL_EPOCHS", 8.0, "SOLVER.EMA.DECAY", 0.9)
    node = cfg.INPUT.CLASSIFICATION
    node.RAND_AUGMENT, node.RANDOM_ERASING, node.MIXUP, node.CUTMIX = "", 0.0, 0.0, 0.0  # which change colours
    run(cfg)
    out = tmp_path / "out"
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    last = [line for line in lines if "top1" in line][-1]
    assert last["top1"] == 100 and {"class_mean", "ema/top1", "total_loss", "images_per_second"} <= set().union(*lines)
    best = read_weights(out, "model_best")
    assert best["best"]["metric"] == "top1" and best["class_names"] == ["blue", "green", "red"]
    assert read_weights(out)["class_names"] == ["blue", "green", "red"]
    summary = json.loads((out / "inference/test/classification_results.json").read_text())
    assert summary["images"] == 9 and summary["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    with Image.open(out / "inference/test/confusion.png") as picture:
        assert picture.width > 300


def test_metrics_have_every_evaluation(colours_cfg, tmp_path):
    run(colours_cfg("SOLVER.MAX_ITER", 5, "TEST.EVAL_PERIOD", 2))
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "top1" in line] == [1, 3, 5]


@pytest.mark.parametrize("probe", [False, True])
def test_a_resumed_run_is_an_undisturbed_one(colours_cfg, tmp_path, probe):
    options = ["SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2, "MODEL.CLASSIFIER.PROBE", probe]
    options += ["SOLVER.OPTIMIZER", "LARS" if probe else "AdamW", "MODEL.CONVMAE.DROP_PATH_RATE", 0.1 * (not probe)]
    run(colours_cfg(*options))
    whole = read_weights(tmp_path / "out")
    (tmp_path / "out/last_checkpoint").write_text("model_0000001.pth")
    (tmp_path / "out/model_final.pth").unlink()
    run(colours_cfg(*options), resume=True)
    again = read_weights(tmp_path / "out")
    assert all(torch.equal(tensor, again["model"][name]) for name, tensor in whole["model"].items())


def test_accumulation_changes_rounding_alone(colours_cfg, tmp_path):
    states = []
    for parts in (1, 2):
        options = ["SOLVER.MAX_ITER", 2, "SOLVER.BASE_LR", 1e-3, "SOLVER.ACCUMULATION_STEPS", parts]
        states.append(run(colours_cfg(*options, "OUTPUT_DIR", str(tmp_path / str(parts)))).model.state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-3, atol=2e-4)


def test_damaged_images_are_skipped_and_named(colours_cfg, colours_folder, tmp_path):
    for path in (colours_folder / "train").rglob("*.png"):
        target = tmp_path / "copy" / path.relative_to(colours_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"none" if path.name in ("1.png", "2.png") else path.read_bytes())
    folders = [["train", str(tmp_path / "copy/train")], ["test", str(colours_folder / "test")]]
    run(colours_cfg("DATASETS.CLASS_FOLDERS", folders, "SOLVER.MAX_EPOCHS", 1))
    lines = (tmp_path / "out/skipped_images.log").read_text().splitlines()
    assert len(lines) == 6 and "can't be read" in lines[0]


def test_evaluation_alone(colours_cfg, tmp_path):
    run(colours_cfg("SOLVER.MAX_ITER", 1))
    cfg = colours_cfg("MODEL.WEIGHTS", str(tmp_path / "out/model_final.pth"))

    class Arguments:
        eval_only, resume = True, False

    assert train(cfg, Arguments()).keys() == {"top1", "class_mean"}
    cfg.DATASETS.CATEGORIES = [[0, "blue"], [1, "green"], [2, "yellow"]]
    with pytest.raises(InputError):
        train(cfg, Arguments())


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["TEST.BEST_METRIC", "bbox/AP"], "TEST.BEST_METRIC is 'bbox/AP'; it must be one of top1, class_mean"),
        (["INPUT.CLASSIFICATION.RAND_AUGMENT", "fast"], "INPUT.CLASSIFICATION.RAND_AUGMENT is 'fast'; it must"),
        (["INPUT.CLASSIFICATION.MIXUP", -1.0], "INPUT.CLASSIFICATION.MIXUP is -1.0; it must be at least 0"),
        (["INPUT.CLASSIFICATION.CROP_SCALE", [0.5, 0.1]], "INPUT.CLASSIFICATION.CROP_SCALE is"),
        (["INPUT.CLASSIFICATION.TEST_CROP", 0.0], "INPUT.CLASSIFICATION.TEST_CROP is 0.0; it must"),
        (["SOLVER.OPTIMIZER", "SGD"], "SOLVER.OPTIMIZER is 'SGD'; it must be one of AdamW, LARS"),
        (["MODEL.CLASSIFIER.NUM_CLASSES", 1], "MODEL.CLASSIFIER.NUM_CLASSES is 1; it must be at least 2"),
        (["MODEL.CLASSIFIER.LABEL_SMOOTHING", 1.0], "MODEL.CLASSIFIER.LABEL_SMOOTHING is 1.0; it must"),
        (["DATASETS.TRAIN", ()], "DATASETS.TRAIN is (); it must name"),
        (["INPUT.ALL_PAGES", True], "INPUT.ALL_PAGES is True; it must be False beside pretraining"),
        (
            ["SOLVER.ACCUMULATION_STEPS", 4, "MODEL.CLASSIFIER.PROBE", True, "INPUT.CLASSIFICATION.MIXUP", 0.0]
            + ["INPUT.CLASSIFICATION.CUTMIX", 0.0],
            "SOLVER.IMS_PER_BATCH is 4; it must be a multiple of 8",
        ),
        (["SOLVER.IMS_PER_BATCH", 3], "SOLVER.IMS_PER_BATCH is 3; it must be a multiple of 2"),
    ],
)
def test_sentences(colours_cfg, options, sentence):
    with pytest.raises(InputError) as error:
        run(colours_cfg(*options))
    assert str(error.value).startswith(sentence)


def test_the_architecture_chooses_the_trainer(colours_cfg, shapes_cfg):
    assert choose_trainer(colours_cfg()) is ClassificationTrainer and choose_trainer(shapes_cfg()) is DetectionTrainer
