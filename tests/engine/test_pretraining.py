"""Pretraining by its command: exact after a kill, the same in several processes, with every mistake in a sentence."""

import json
import logging
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from engine.watched_pretraining import MapperWithMasks, WatchedTrainer, stack_with_masks
from PIL import Image
from reference.small import AUTOENCODER, ENCODER

from convmae_det.cli import pretrain as command
from convmae_det.data.pretraining import loader as pretraining
from convmae_det.data.shapes import register_shapes, write_shapes
from convmae_det.engine import launch
from convmae_det.ops import compilation

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "configs/quickstart/pretrain_convmae_tiny_shapes.yaml"
SCRIPT = Path(__file__).parent / "watched_pretraining.py"
TRAINING = (
    *("SEED", 3),
    *("DATALOADER.NUM_WORKERS", 0),
    *("DATASETS.TRAIN", ("images",)),
    *("MODEL.CONVMAE.DROP_PATH_RATE", 0.2),
    *("SOLVER.IMS_PER_BATCH", 4),
    *("SOLVER.REFERENCE_BATCH_SIZE", 0),
    *("SOLVER.BASE_LR", 1e-3),
    *("SOLVER.WARMUP_ITERS", 2),
    *("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"),
    *("SOLVER.MAX_ITER", 3),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten pictures of coloured blots, in folders within a folder."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(10):
        rng = np.random.default_rng(number)
        blots = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        path = folder / f"part {number % 3}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        blots.resize(rng.integers(50, 90, 2).tolist(), Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """Logging as it is; the command's trainer is watched; listings are cached, and data sets known, for this test."""
    monkeypatch.setattr(launch, "set_up_logging", lambda output_dir: None)
    monkeypatch.setattr(command, "PretrainingTrainer", WatchedTrainer)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    if "images" in DatasetCatalog:
        DatasetCatalog.remove("images")
        MetadataCatalog.remove("images")


@pytest.fixture
def words(folder, tmp_path):
    """words(...): the command line of a small run in tmp_path/out, with further words."""

    def words(*more):
        options = [*ENCODER, *AUTOENCODER, *TRAINING, "DATASETS.IMAGE_FOLDERS", [["images", str(folder)]]]
        flags, more = [word for word in more if str(word).startswith("-")], [w for w in more if str(w)[:1] != "-"]
        return [str(word) for word in ("--num-gpus", 0, *flags, *options, "OUTPUT_DIR", tmp_path / "out", *more)]

    return words


@pytest.fixture
def pretrain(words):
    """pretrain(...): the exit status of a run in this process."""
    return lambda *more: command.main(words(*more))


def noted_losses(folder: Path) -> list[tuple[int, float]]:
    lines = [line.split() for line in (folder / "losses.txt").read_text().splitlines()]
    return [(int(iteration), float.fromhex(loss)) for iteration, loss in lines]


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def final_model(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def assert_identical(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]


def environment(tmp_path: Path) -> dict[str, str]:
    added = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return os.environ | added


# Runs that are cut off


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(python, words, pretrain, tmp_path, accumulation):
    options = ["SOLVER.ACCUMULATION_STEPS", accumulation, "SOLVER.MAX_ITER", 12, "SOLVER.CHECKPOINT_PERIOD", 4]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert pretrain(*options, "OUTPUT_DIR", whole) == 0
    options += ["OUTPUT_DIR", killed, "DATALOADER.NUM_WORKERS", 2]
    command = [python, str(SCRIPT), "6", *words(*options)]
    with open(tmp_path / "output.txt", "w") as output:  # not a pipe, which the workers would hold open for a while
        process = subprocess.run(command, env=environment(tmp_path), stdout=output, stderr=output, timeout=120)
    assert process.returncode == -signal.SIGKILL, (tmp_path / "output.txt").read_text()
    assert (killed / "last_checkpoint").read_text() == "model_0000003.pth"
    assert pretrain("--resume", *options) == 0

    losses = noted_losses(whole)
    assert [iteration for iteration, _ in losses] == list(range(12))
    assert noted_losses(killed) == losses[:7] + losses[4:]
    assert_identical(final_model(killed), final_model(whole))


def test_a_finished_run_is_left_as_it_is(pretrain, tmp_path, caplog):
    assert pretrain() == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    with caplog.at_level(logging.INFO, "convmae_det"):
        assert pretrain("--resume", "DATASETS.TEST", ("nowhere",)) == 0
    assert "ended after 3 iterations" in caplog.text
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before


def test_divergence_stops_a_run_and_leaves_its_checkpoint(pretrain, tmp_path, capsys):
    """The learning rate is 0 until a checkpoint is written, and absurd from then on."""
    options = ["SOLVER.MAX_ITER", 9, "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.WARMUP_ITERS", 3]
    options += ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.WARMUP_METHOD", "constant"]
    status = pretrain(*options, "SOLVER.WARMUP_FACTOR", 0.0, "SOLVER.BASE_LR", 1e30, "SOLVER.STEP_FRACTIONS", [])
    error = capsys.readouterr().err
    assert status == 1 and error.startswith("error: ") and error.count("\n") == 1
    for part in ("iteration 4", "1e+30", "loss_reconstruction nan"):
        assert part in error
    assert error.count(".png") == 4
    out = tmp_path / "out"
    assert (out / "last_checkpoint").read_text() == "model_0000002.pth"
    assert [path.name for path in out.glob("*.pth")] == ["model_0000002.pth"]
    content = torch.load(out / "model_0000002.pth", weights_only=True)["model"]
    assert all(value.isfinite().all() for value in content.values())
    assert pretrain("--resume", *options) == 0


# Several processes


def test_two_processes_train_as_one(python, words, pretrain, folder, tmp_path, monkeypatch):
    """Started by torchrun, each with half of the batch and of the probe; the masks come with the images."""
    options = ["SOLVER.IMS_PER_BATCH", 2, "MODEL.CONVMAE.DROP_PATH_RATE", 0.0]
    options += ["TEST.PROBE", [["blots", str(folder), str(folder)]]]
    monkeypatch.setattr(pretraining, "PretrainingMapper", MapperWithMasks)
    monkeypatch.setattr(pretraining, "stack_images", stack_with_masks)
    assert pretrain(*options, "OUTPUT_DIR", tmp_path / "one") == 0
    torchrun = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(SCRIPT), "masks", *words(*options, "OUTPUT_DIR", tmp_path / "two")]
    ended = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("Training starts") == ended.stdout.count("iteration 1 of") == 1
    assert ended.stdout.count("processes: 2") == 1
    assert "Training starts" in (tmp_path / "two/log.txt.rank1").read_text()

    expected = torch.load(tmp_path / "one/gradients0.pt")
    for rank in range(2):
        gradients = torch.load(tmp_path / f"two/gradients{rank}.pt")
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    for (_, loss), (_, same) in zip(noted_losses(tmp_path / "two"), noted_losses(tmp_path / "one"), strict=True):
        assert loss == pytest.approx(same, rel=1e-5)
    (*_, probed), (*_, same) = (metrics(tmp_path / name) for name in ("two", "one"))
    for name in ("features/rank", "probe/blots/rank", "probe/blots/knn_top1"):
        assert probed[name] == pytest.approx(same[name], rel=1e-3)


# What a run is made of


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    """A few shapes, where the environment variable DETECTRON2_DATASETS says."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_shapes(train=8, val=1, size=64)


def test_the_quickstart(datasets, monkeypatch, tmp_path, caplog):
    """The script itself, with its configuration, a little smaller."""
    register_shapes()
    options = ["SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 4, "OUTPUT_DIR", str(tmp_path / "out")]
    words = ["--num-gpus", "0", "--config-file", str(QUICKSTART), *map(str, options)]
    monkeypatch.setattr(sys, "argv", ["pretrain_net.py", *words])
    with caplog.at_level(logging.INFO, "convmae_det"), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "pretrain_net.py"), run_name="__main__")
    assert ended.value.code == 0
    assert "8 images, 2 iterations" in caplog.text and "random weights" in caplog.text
    (picture,) = (tmp_path / "out/reconstructions").iterdir()
    assert picture.name == "0000002.png"


def test_the_shapes_are_known_where_data_sets_are_looked_up(python, tmp_path):
    """To run the module that registers them, python -m must not find it imported already."""
    code = "import sys, convmae_det.data; print('convmae_det.data.shapes' in sys.modules)\n"
    code += "import convmae_det.data.detection.catalog as c; print(c.MetadataCatalog.get('shapes_val').json_file)"
    env = environment(tmp_path) | {"DETECTRON2_DATASETS": str(tmp_path)}
    ended = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert ended.stdout.split() == ["False", str(tmp_path / "shapes/annotations/instances_val.json")], ended.stderr


def test_metrics_and_log_say_how_fast_and_how_far(pretrain, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "convmae_det"):
        assert pretrain("SOLVER.MAX_ITER", 21) == 0
    lines = metrics(tmp_path / "out")
    assert [line["iteration"] for line in lines] == [19, 20]
    assert [line["epoch"] for line in lines] == pytest.approx([20 * 4 / 10, 21 * 4 / 10])
    for line in lines:
        assert line["images_per_second"] > 0 and 0 < line["data_share"] < 1
        assert line.keys() >= {"total_loss", "lr", "grad_norm", "data_time", "time"}
    assert "iteration 21 of 21, epoch 8.40 of 8.40, total_loss" in caplog.text


def test_pictures_are_drawn_now_and_then_and_do_not_disturb(pretrain, tmp_path):
    options = ["SOLVER.MAX_ITER", 5, "VIS_PERIOD"]
    assert pretrain(*options, 2) == 0
    assert pretrain(*options, 0, "OUTPUT_DIR", tmp_path / "plain") == 0
    pictures = tmp_path / "out/reconstructions"
    assert sorted(path.name for path in pictures.iterdir()) == ["0000002.png", "0000004.png", "0000005.png"]
    first, last = (np.asarray(Image.open(pictures / f"{number:07d}.png")) for number in (2, 5))
    assert first.shape == last.shape and (first != last).any()
    half = first.shape[1] // 2  # the original and what is visible of it
    assert (first[:, :half] != last[:, :half]).mean() < 0.01  # the losses below
    assert not (tmp_path / "plain/reconstructions").exists()
    assert noted_losses(tmp_path / "out") == noted_losses(tmp_path / "plain")


def test_damaged_images_are_skipped_counted_and_named(pretrain, folder, tmp_path, caplog):
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    for number, path in enumerate(sorted(folder.rglob("*.png"))[:4]):
        (spoilt / path.name).write_bytes(path.read_bytes()[: 100 if number < 2 else None])
    with caplog.at_level(logging.WARNING, "convmae_det"):
        assert pretrain("DATASETS.IMAGE_FOLDERS", [["images", str(spoilt)]]) == 0
    log = tmp_path / "out/skipped_images.log"
    assert len(log.read_text().splitlines()) == 2
    assert f"2 images could not be read and were skipped: {log} names them" in caplog.text


def test_the_batch_is_cut_to_what_a_pass_may_hold(pretrain, tmp_path):
    assert pretrain("SOLVER.ACCUMULATION_STEPS", 0, "SOLVER.MAX_IMS_PER_PASS", 3) == 0
    assert pretrain("SOLVER.ACCUMULATION_STEPS", 2, "OUTPUT_DIR", tmp_path / "two") == 0
    assert noted_losses(tmp_path / "out") == noted_losses(tmp_path / "two")
    written = yaml.safe_load((tmp_path / "out/config.yaml").read_text())["SOLVER"]
    assert (written["ACCUMULATION_STEPS"], written["MAX_IMS_PER_PASS"]) == (0, 3)  # also right for more processes


def test_mixed_precision(pretrain, tmp_path):
    assert pretrain("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16") == 0
    assert pretrain("OUTPUT_DIR", tmp_path / "single") == 0
    mixed, single = (dict(noted_losses(tmp_path / name)) for name in ("out", "single"))
    assert mixed != single and list(mixed.values()) == pytest.approx(list(single.values()), rel=0.02)
    assert {value.dtype for value in final_model(tmp_path / "out").values()} == {torch.float32}


def test_recomputed_activations_change_nothing(pretrain, tmp_path):
    for recompute in (False, True):
        out = tmp_path / str(recompute)
        assert pretrain("MODEL.CONVMAE.ACTIVATION_CHECKPOINT", recompute, "OUTPUT_DIR", out) == 0
    assert noted_losses(tmp_path / "True") == noted_losses(tmp_path / "False")
    assert_identical(final_model(tmp_path / "True"), final_model(tmp_path / "False"))


def test_compiled_modules_keep_weights_and_names(pretrain, tmp_path, monkeypatch):
    """Traced, each as one graph, and differentiated as for the compiler, which tests/slow runs itself."""
    compiled, compile = [], torch.compile

    def traced(function, *args, **options):
        compiled.append(type(function.__self__).__name__)
        return compile(function, *args, **options | {"backend": "aot_eager", "fullgraph": True})

    monkeypatch.setattr(compilation, "_try_compiling", lambda device: None)
    monkeypatch.setattr(torch, "compile", traced)
    assert pretrain("MODEL.COMPILE", True, "MODEL.CONVMAE.DROP_PATH_RATE", 0.0) == 0
    assert sorted(compiled) == ["Decoder", "Encoder"]
    assert pretrain("MODEL.CONVMAE.DROP_PATH_RATE", 0.0, "OUTPUT_DIR", tmp_path / "plain") == 0
    ours, plain = (noted_losses(tmp_path / name) for name in ("out", "plain"))
    assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in plain], rel=1e-5)
    assert final_model(tmp_path / "out").keys() == final_model(tmp_path / "plain").keys()


# Mistakes


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["MODEL.MAE.MASK_RATIO", 0], "MODEL.MAE.MASK_RATIO is 0.0; it must lie between 0 and 1"),
        (["MODEL.MAE.MASK_RATIO", 1], "MODEL.MAE.MASK_RATIO is 1.0; it must lie between 0 and 1"),
        (["MODEL.MAE.MASK_RATIO", 0.99], "MODEL.MAE.MASK_RATIO 0.99 leaves 0 of 16 tokens visible"),
        (["MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 100], "MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE is 100"),
        (["MODEL.MAE.DECODER_NUM_HEADS", 5], "MODEL.MAE.DECODER_NUM_HEADS is 5; it must divide"),
        (["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "float16"], "SOLVER.AMP.DTYPE float16 needs a GPU"),
        (["SOLVER.ACCUMULATION_STEPS", 3], "SOLVER.IMS_PER_BATCH is 4; it must be a multiple of 3"),
        (
            ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"],
            "MODEL.META_ARCHITECTURE is 'GeneralizedRCNN'; it must be MaskedAutoencoder",
        ),
        (
            ["INPUT.FORMAT", "L"],
            "MODEL.PIXEL_MEAN is [123.675, 116.28, 103.53]; it must have as many numbers as INPUT.FORMAT L has "
            "channels, 1",
        ),
        (["DATASETS.IMAGE_FOLDERS", [["images", "nowhere"]]], "nowhere, the folder of images in DATASETS.IMAGE_FOLD"),
        (["DATASETS.IMAGE_FOLDERS", [["images", "empty"]]], "empty holds no images"),
        (
            ["DATASETS.TRAIN", ("shapes_tran",)],
            "'shapes_tran' is not registered: did you mean images, which DATASETS lists, or shapes_train",
        ),
        (["DATASETS.TRAIN", ()], "DATASETS.TRAIN is (); it must name"),
        (["--eval-only"], "--eval-only is for train_net.py"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_a_mistake_is_named(pretrain, tmp_path, monkeypatch, capsys, options, sentence):
    register_shapes()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert pretrain(*options) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and sentence in error
    assert not list((tmp_path / "out").glob("*.pth"))


def test_damaged_images_alone_are_no_data_set(pretrain, tmp_path, capsys):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/1.png").write_text("no image")
    assert pretrain("DATASETS.IMAGE_FOLDERS", [["images", str(tmp_path / "damaged")]]) == 1
    assert "None of 32 images drawn can be read" in capsys.readouterr().err


def test_images_of_12_bits_keep_their_levels(pretrain, tmp_path, caplog):
    """The white level is found before training, said, and stored for whatever uses the weights."""
    wide = tmp_path / "wide"
    wide.mkdir()
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 4096, (64, 64), dtype=np.uint16)
        Image.fromarray(values).save(wide / f"{number}.png")
    options = ("DATASETS.IMAGE_FOLDERS", [["images", str(wide)]])
    with caplog.at_level(logging.WARNING, "convmae_det"):
        assert pretrain(*options) == 0
    assert "INPUT.WHITE_LEVEL is 4095, since the brightest value is 4095" in caplog.text
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text())["INPUT"]["WHITE_LEVEL"] == 4095
    assert pretrain(*options, "INPUT.WHITE_LEVEL", 4095, "OUTPUT_DIR", tmp_path / "set") == 0
    assert noted_losses(tmp_path / "out") == noted_losses(tmp_path / "set")
    assert pretrain(*options, "INPUT.WHITE_LEVEL", 65535, "OUTPUT_DIR", tmp_path / "full") == 0
    assert noted_losses(tmp_path / "out") != noted_losses(tmp_path / "full")


def test_bands_begin_from_weights_for_rgb(pretrain, tmp_path, caplog):
    assert pretrain() == 0
    bands = tmp_path / "bands"
    bands.mkdir()
    for number in range(4):
        np.save(bands / f"{number}.npy", np.random.default_rng(number).integers(0, 256, (64, 64, 5), dtype=np.uint8))
    options = ["DATASETS.IMAGE_FOLDERS", [["images", str(bands)]], "INPUT.FORMAT", "bands", "VIS_PERIOD", 2]
    options += ["MODEL.PIXEL_MEAN", [120.0] * 5, "MODEL.PIXEL_STD", [60.0] * 5, "OUTPUT_DIR", tmp_path / "five"]
    options += ["MODEL.WEIGHTS", tmp_path / "out/model_final.pth", "MODEL.CONVMAE.ADAPT_CHANNELS", True]
    with caplog.at_level(logging.INFO, "convmae_det"):
        assert pretrain(*options) == 0
    assert "adapted to the channels" in caplog.text
    assert len(noted_losses(tmp_path / "five")) > 0 and list((tmp_path / "five/reconstructions").iterdir())
