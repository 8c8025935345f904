"""A small data set in COCO's format that a test can spoil, and a configuration for it."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from convmae_det.config import add_convmae_config

REAL_COCO = Path(__file__).parents[3] / "shared" / "data" / "coco"
CATEGORY_IDS = (7, 90)


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.merge_from_list(["SEED", 3, "DATALOADER.NUM_WORKERS", 0, "INPUT.LSJ.IMAGE_SIZE", 64])
    cfg.merge_from_list(["MODEL.ROI_HEADS.NUM_CLASSES", len(CATEGORY_IDS), "SOLVER.IMS_PER_BATCH", 2])
    cfg.merge_from_list(["DATASETS.TRAIN", ("mini",), "DATASETS.TEST", ("mini",)])
    return cfg


@pytest.fixture
def register(tmp_path):
    """register(...): write `count` images of noise, each with two objects, let `change` alter the content of the
    annotation file, and register all that as "mini". `text` replaces the file's content, the others the paths.
    """
    path, folder = tmp_path / "annotations.json", tmp_path / "images"

    def register(change=None, count=4, text=None, json_file=path, image_root=folder):
        content = write_images(folder, count)
        if change:
            change(content)
        path.write_text(json.dumps(content) if text is None else text)
        register_coco_instances("mini", {}, str(json_file), str(image_root))

    yield register
    if "mini" in DatasetCatalog:
        DatasetCatalog.remove("mini")
    MetadataCatalog.pop("mini", None)


def write_images(folder: Path, count: int) -> dict:
    folder.mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"class {i}"} for i in CATEGORY_IDS]}
    for number in range(count):
        rng = np.random.default_rng(number)
        height, width = rng.integers(30, 60, 2).tolist()
        name = f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
        content["images"].append({"id": number + 1, "file_name": name, "height": height, "width": width})
        for category, (x, y, w, h) in zip(CATEGORY_IDS, [(2, 3, 20, 12), (10, 8, 15, 20)], strict=True):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number + 1,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    return content


@pytest.fixture
def write_coco(tmp_path):
    """write_coco(...): write such a data set without registering it; the paths of its file and its images."""

    def write_coco(count=4):
        path, folder = tmp_path / "annotations.json", tmp_path / "images"
        path.write_text(json.dumps(write_images(folder, count)))
        return str(path), str(folder)

    return write_coco


@pytest.fixture
def real_coco():
    if not REAL_COCO.is_dir():
        pytest.skip("there is no ../shared/data/coco")
    return REAL_COCO
