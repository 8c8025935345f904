"""A panoptic FPN is trained, resumed and evaluated as a detector is, for panoptic quality beside AP."""

import json

import pytest
import torch
from reference.small import detector_cfg

from convmae_det.data.shapes import CATEGORIES, register_shapes
from convmae_det.engine.hooks.evaluation import choose_best_metric
from convmae_det.engine.panoptic import PanopticTrainer
from convmae_det.engine.tasks import choose_trainer
from convmae_det.errors import InputError


@pytest.fixture
def panoptic_cfg(shapes_folder, tmp_path):
    """``panoptic_cfg(KEY, value, …)``: four training images, two in an iteration."""
    register_shapes(shapes_folder)

    def make(*options):
        return detector_cfg(
            *("SEED", 3, "OUTPUT_DIR", str(tmp_path / "out"), "DATALOADER.NUM_WORKERS", 0),
            *("MODEL.META_ARCHITECTURE", "PanopticFPN", "INPUT.MASK_FORMAT", "bitmask"),
            *("DATASETS.TRAIN", ("shapes_panoptic_train",), "DATASETS.TEST", ("shapes_panoptic_val",)),
            *("DATASETS.CATEGORIES", [[number, name] for number, name in enumerate(CATEGORIES, start=1)]),
            *("DATASETS.STUFF_CATEGORIES", [[5, "background"]], "MODEL.ROI_HEADS.NUM_CLASSES", 4),
            *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
            *("MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 64),
            *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.WARMUP_ITERS", 0, *options),
        )

    yield make
    register_shapes()


def run(cfg, resume=False):
    trainer = choose_trainer(cfg)(cfg)
    trainer.resume_or_load(resume)
    return trainer.train()


def test_a_resumed_run_is_an_undisturbed_one(panoptic_cfg, tmp_path):
    options = ["SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2]
    scores, out = run(panoptic_cfg(*options)), tmp_path / "out"
    assert (
        scores.keys() == {"panoptic_seg", "bbox", "segm"} and {"PQ", "SQ_th", "RQ_st"} <= scores["panoptic_seg"].keys()
    )
    whole = torch.load(out / "model_final.pth", weights_only=True)
    best = torch.load(out / "model_best.pth", weights_only=True)["best"]
    assert best["metric"] == "panoptic_seg/PQ" and best["value"] == scores["panoptic_seg"]["PQ"]
    (out / "last_checkpoint").write_text("model_0000001.pth")
    (out / "model_final.pth").unlink()
    again = run(panoptic_cfg(*options), resume=True)
    resumed = torch.load(out / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole["model"].items())
    assert again["panoptic_seg"] == scores["panoptic_seg"]
    evaluated = PanopticTrainer.evaluate(panoptic_cfg(*options, "MODEL.WEIGHTS", str(out / "model_final.pth")))
    assert evaluated["panoptic_seg"] == scores["panoptic_seg"]
    summary = json.loads((out / "inference/panoptic_results.json").read_text())
    assert summary["all"]["PQ"] == scores["panoptic_seg"]["PQ"]
    assert [entry["name"] for entry in summary["classes"]] == [*CATEGORIES, "background"]
    assert "background" in (out / "report.html").read_text()


def test_stuff_is_learned_by_heart(panoptic_cfg):
    options = ("SOLVER.MAX_ITER", 20, "SOLVER.BASE_LR", 3e-3, "MODEL.CONVMAE.DROP_PATH_RATE", 0.0)
    cfg = panoptic_cfg(*options, "DATASETS.TEST", ("shapes_panoptic_train",), "INPUT.LSJ.MIN_SCALE", 1.0)
    cfg.INPUT.LSJ.MAX_SCALE = 1.0
    assert run(cfg)["panoptic_seg"]["PQ_st"] > 50


@pytest.mark.parametrize(
    "key, value",
    [
        ("MODEL.MASK_ON", False),
        ("MODEL.PANOPTIC_FPN.COMBINE.ENABLED", False),
        ("MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH", 1.5),
        ("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", 0.0),
        ("MODEL.SEM_SEG_HEAD.NAME", "UPerHead"),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 1),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 300),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
        ("DATASETS.CROWD_AS_OBJECTS", True),
        ("INPUT.MASK_FORMAT", "polygon"),
        ("TEST.BEST_METRIC", "panoptic_seg/mIoU"),
    ],
)
def test_what_does_not_go_together_is_refused(panoptic_cfg, key, value):
    cfg = panoptic_cfg("DATASETS.PANOPTIC", [], key, value)
    with pytest.raises(InputError, match=rf"{key}|mask in run lengths"):
        PanopticTrainer(cfg)


def test_metrics_of_classes_choose_the_best(panoptic_cfg):
    names = ("panoptic_seg/PQ_st", "panoptic_seg/PQ-background", "segm/AP")
    for name in names:
        assert choose_best_metric(panoptic_cfg("TEST.BEST_METRIC", name)) == name
