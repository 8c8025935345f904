"""Images of three classes that any network tells apart: each mostly of one colour."""

from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from PIL import Image

from .small import classifier_cfg

COLOURS = {"blue": (40, 60, 220), "green": (30, 200, 60), "red": (220, 50, 40)}


def write_colours(root: Path) -> Path:
    """Writes eight training images and three test images of each colour, 40×36 pixels, into folders of classes."""
    random = np.random.default_rng(0)
    for part, number in (("train", 8), ("test", 3)):
        for name, colour in COLOURS.items():
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(number):
                pixels = np.clip(np.array(colour) + random.normal(0, 40, (36, 40, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


def build_colours_cfg(root: Path, output: Path, *options) -> CfgNode:
    """A classifier of the colours: batches of four, all augmentations switched on."""
    cfg = classifier_cfg("SEED", 3, "OUTPUT_DIR", str(output), "DATALOADER.NUM_WORKERS", 0)
    cfg.DATASETS.CLASS_FOLDERS = [[name, str(root / name)] for name in ("train", "test")]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("train",), ("test",)
    cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", 4, "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.WARMUP_ITERS", 0])
    node = cfg.INPUT.CLASSIFICATION
    node.RAND_AUGMENT, node.RANDOM_ERASING, node.MIXUP, node.CUTMIX = "rand-m9-mstd0.5-inc1", 0.5, 0.8, 1.0
    cfg.merge_from_list(list(options))
    return cfg
