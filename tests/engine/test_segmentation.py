"""A segmentor is trained, resumed and evaluated as a detector is."""

import json

import pytest
import torch
from reference.small import segmentor_cfg

from convmae_det.data.shapes import SEMANTIC_CLASSES, register_shapes
from convmae_det.engine.segmentation import SegmentationTrainer
from convmae_det.engine.tasks import choose_trainer
from convmae_det.errors import InputError

FPN = (
    *("MODEL.BACKBONE.NAME", "build_convmae_fpn_backbone", "MODEL.FPN.OUT_CHANNELS", 16),
    *("MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead", "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
    *("MODEL.CONVMAE.RELATIVE_POSITION", "shared", "MODEL.CONVMAE.WINDOW_SIZE", 3),
)


@pytest.fixture
def masks_cfg(shapes_folder, tmp_path):
    """``masks_cfg(KEY, value, …)``: four training images with masks, two in an iteration."""
    register_shapes(shapes_folder)

    def make(*options):
        return segmentor_cfg(
            *("SEED", 3, "OUTPUT_DIR", str(tmp_path / "out"), "DATALOADER.NUM_WORKERS", 0),
            *("DATASETS.TRAIN", ("shapes_semantic_train",), "DATASETS.TEST", ("shapes_semantic_val",)),
            *("DATASETS.CATEGORIES", [[number, name] for number, name in enumerate(SEMANTIC_CLASSES)]),
            *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5, "MODEL.CONVMAE.DROP_PATH_RATE", 0.2),
            *("INPUT.SEGMENTATION.CROP_SIZE", 64, "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 64),
            *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.WARMUP_ITERS", 0),
            *("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", *options),
        )

    yield make
    register_shapes()


def run(cfg, resume=False):
    trainer = SegmentationTrainer(cfg)
    trainer.resume_or_load(resume)
    return trainer.train()


def read_weights(folder, name="model_final"):
    return torch.load(folder / f"{name}.pth", weights_only=True)


@pytest.mark.parametrize("head", ["UPerHead", "SemSegFPNHead"])
def test_a_resumed_run_is_an_undisturbed_one(masks_cfg, tmp_path, head):
    options = ["SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2, *(FPN if head == "SemSegFPNHead" else ())]
    scores = run(masks_cfg(*options))
    whole = read_weights(tmp_path / "out")
    assert whole["class_names"] == list(SEMANTIC_CLASSES)
    best = read_weights(tmp_path / "out", "model_best")
    assert best["best"]["metric"] == "sem_seg/mIoU" and best["best"]["value"] == scores["sem_seg"]["mIoU"]
    (tmp_path / "out/last_checkpoint").write_text("model_0000001.pth")
    (tmp_path / "out/model_final.pth").unlink()
    again = run(masks_cfg(*options), resume=True)
    resumed = read_weights(tmp_path / "out")["model"]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole["model"].items())
    assert again == scores
    evaluated = SegmentationTrainer.evaluate(
        masks_cfg(*options, "MODEL.WEIGHTS", str(tmp_path / "out/model_final.pth"))
    )
    assert evaluated == scores
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    assert {"sem_seg/mIoU", "sem_seg/boundary_mIoU", "total_loss"} <= set().union(*lines)


def test_it_learns_what_is_easy(masks_cfg, tmp_path):
    """Four images by heart, more of each class than of any other."""
    options = (*FPN, "SOLVER.MAX_ITER", 40, "SOLVER.BASE_LR", 3e-3, "MODEL.CONVMAE.DROP_PATH_RATE", 0.0)
    cfg = masks_cfg(*options, "INPUT.SEGMENTATION.MIN_SCALE", 1.0, "INPUT.SEGMENTATION.MAX_SCALE", 1.0)
    cfg.INPUT.SEGMENTATION.PHOTOMETRIC, cfg.DATASETS.TEST = False, ("shapes_semantic_train",)
    assert run(cfg)["sem_seg"]["mIoU"] > 40


def test_windows_are_evaluated_by_their_keys(masks_cfg, tmp_path):
    run(masks_cfg("SOLVER.MAX_ITER", 1))
    weights = ("MODEL.WEIGHTS", str(tmp_path / "out/model_final.pth"))
    whole, same, small = (
        SegmentationTrainer.evaluate(masks_cfg(*weights, "TEST.SLIDING_WINDOW", window, "TEST.SLIDING_STRIDE", 16))
        for window in (0, 64, 32)
    )
    assert whole == same != small


def test_the_command_chooses_it(masks_cfg):
    assert choose_trainer(masks_cfg()) is SegmentationTrainer


def test_rates_fall_to_zero(masks_cfg):
    trainer = SegmentationTrainer(masks_cfg("SOLVER.MAX_ITER", 8, "SOLVER.POLY_POWER", 2.0, "SOLVER.BASE_LR", 1.0))
    rates = []
    for _ in range(8):
        rates.append(max(group["lr"] for group in trainer.optimizer.param_groups))
        trainer.optimizer.step()
        trainer.scheduler.step()
    assert rates == pytest.approx([(1 - i / 8) ** 2 for i in range(8)])


@pytest.mark.parametrize(
    "key, value",
    [
        ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"),
        ("MODEL.SEM_SEG_HEAD.NAME", "OtherHead"),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 3),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 1),
        ("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 0.0),
        ("SOLVER.IMS_PER_BATCH", 1),
        ("SOLVER.POLY_POWER", 0.0),
        ("TEST.SLIDING_WINDOW", -1),
        ("TEST.BEST_METRIC", "bbox/AP"),
        ("TEST.EXPECTED_RESULTS", [["sem_seg", "mIoU", 1.0, 1.0]]),
        ("DATASETS.TRAIN", ()),
    ],
)
def test_what_can_not_be_trained_is_said_first(masks_cfg, tmp_path, key, value):
    with pytest.raises(InputError, match=f"^{key} is "):
        SegmentationTrainer(masks_cfg(key, value))
    assert not (tmp_path / "out").exists()
