"""The tiny detector learns 8 real images by heart: annotations, crops, masks and evaluation fit together."""

import json
import os
from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.data.datasets import register_coco_instances

from convmae_det.config import add_convmae_config
from convmae_det.engine.trainer import DetectionTrainer

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs/quickstart/mask_rcnn_convmae_tiny_shapes.yaml"
COCO = Path(os.environ.get("DETECTRON2_DATASETS", Path(__file__).parents[3] / "shared/data"), "coco")
SIZE = 256  # pixels
SMALLEST = 48  # pixels: shorter side of the smallest box, in the resized image


def choose(content: dict, count: int) -> set[int]:
    """The images of lowest id with one to six objects, none of them a crowd and none small."""
    chosen = set()
    for image in sorted(content["images"], key=lambda image: image["id"]):
        scale = SIZE / max(image["height"], image["width"])
        objects = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        clear = all(not a["iscrowd"] and min(a["bbox"][2:]) * scale >= SMALLEST for a in objects)
        if 1 <= len(objects) <= 6 and clear and len(chosen) < count:
            chosen.add(image["id"])
    return chosen


def write_subset(source: Path, target: Path, count: int) -> None:
    content = json.loads(source.read_text())
    chosen = choose(content, count)
    assert len(chosen) == count
    content["images"] = [image for image in content["images"] if image["id"] in chosen]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in chosen]
    target.write_text(json.dumps(content))


@pytest.mark.skipif(not COCO.is_dir(), reason="needs real COCO images")
def test_tiny_detector_overfits_eight_images(tmp_path):
    annotations = tmp_path / "eight.json"
    write_subset(COCO / "annotations/instances_val2017.json", annotations, 8)
    register_coco_instances("coco_eight", {}, str(annotations), str(COCO / "val2017"))

    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.merge_from_file(str(CONFIG))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("coco_eight",), ("coco_eight",)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    cfg.MODEL.CONVMAE.IMAGE_SIZE = SIZE
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [192], [256]]
    cfg.INPUT.LSJ.IMAGE_SIZE, cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE = SIZE, 0.8, 1.25
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = SIZE, SIZE
    cfg.SOLVER.MAX_ITER = int(os.environ.get("OVERFIT_ITERATIONS", 400))
    cfg.TEST.EVAL_PERIOD = 100
    cfg.SEED, cfg.OUTPUT_DIR = 0, os.environ.get("OVERFIT_OUTPUT", str(tmp_path / "run"))

    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    trainer = DetectionTrainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    assert results["bbox"]["AP50"] >= 90, results
    assert results["segm"]["AP50"] >= 70, results
