"""Eight real images, on which the tiny detector is trained until it knows them by heart."""

import json
import os
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data.datasets import register_coco_instances

from convmae_det.config import add_convmae_config
from convmae_det.data.shapes import write_shapes

CONFIG = Path(__file__).parents[2] / "configs/mask_rcnn_convmae_tiny.yaml"
COCO = Path(os.environ.get("DETECTRON2_DATASETS", Path(__file__).parents[3] / "shared/data"), "coco")
SIZE = 256  # pixels
SMALLEST = 48  # pixels: shorter side of the smallest box, in the resized image


def pytest_collection_modifyitems(items):
    """A process in which autograd has run can't be forked, as faults.Run does: so those come first."""
    items.sort(key=lambda item: not hasattr(item.module, "Run"))


def pytest_collection_finish(session):
    """oneDNN keeps what it has compiled for the last 1,024 shapes, and most new numbers of objects make a new one:
    in test_long_run.py that would look like a leak. It asks for the capacity once, before the first of them.
    """
    if any(item.get_closest_marker("slow") for item in session.items):
        os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "16"


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


@pytest.fixture(scope="session")
def coco_eight(tmp_path_factory) -> tuple[Path, Path]:
    """The annotation file and the image folder of the data set coco_eight."""
    if not COCO.is_dir():
        pytest.skip("needs real COCO images")
    annotations, images = tmp_path_factory.mktemp("coco") / "eight.json", COCO / "val2017"
    write_subset(COCO / "annotations/instances_val2017.json", annotations, 8)
    register_coco_instances("coco_eight", {}, str(annotations), str(images))
    return annotations, images


@pytest.fixture(scope="module")
def overfitting_cfg(coco_eight, tmp_path_factory) -> CfgNode:
    """Of a tiny detector for coco_eight, to train and to test on."""
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.merge_from_file(str(CONFIG))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("coco_eight",), ("coco_eight",)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    cfg.MODEL.CONVMAE.IMAGE_SIZE = SIZE
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [192], [256]]
    cfg.INPUT.LSJ.IMAGE_SIZE, cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE = SIZE, 0.8, 1.25
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = SIZE, SIZE
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SEED, cfg.OUTPUT_DIR = 0, os.environ.get("OVERFIT_OUTPUT", str(tmp_path_factory.mktemp("run")))
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    return cfg


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """Eight drawn training images and four others, for the runs of faults.py."""
    root = tmp_path_factory.mktemp("shapes") / "data"
    write_shapes(root, train=8, val=4, size=64)
    return root
