"""Data, results and folders of runs without a training, for the tests of reports."""

import json
from pathlib import Path

import numpy as np
from detectron2.config import get_cfg
from pycocotools import mask as run_lengths

from convmae_det.config import add_convmae_config

SIDE = 96
CLASSES = ("cell", "<script>alert(1)</script>")  # a stranger's
CORNERS = ((8, 8), (56, 8), (8, 56), (56, 56))
SIZE = 28  # of every object

# By image: the place of an object, its class, and what was found there: (shift of the box, class, score).
OBJECTS = (
    ((0, 0, [(0, 0, 0.5)]), (1, 1, [(0, 1, 0.8)])),  # both right
    ((0, 0, [(0, 1, 0.8)]), (1, 1, [])),  # another class; missed
    ((0, 0, [(14, 0, 0.85)]), (1, 0, [(0, 0, 0.9), (2, 0, 0.8)])),  # inaccurate; right, and found twice
)
NOTHING = ((2, 3, 0, 0.85),)  # image, place, class, score


def draw_box(place, shift=0):
    x, y = CORNERS[place]
    return [float(x + shift), float(y), float(SIZE), float(SIZE)]


def draw_mask(box):
    pixels = np.zeros((SIDE, SIDE), np.uint8, order="F")
    x, y, w, h = (round(value) for value in box)
    pixels[y : y + h, x : x + w] = 1
    encoded = run_lengths.encode(pixels)
    return {"size": [SIDE, SIDE], "counts": encoded["counts"].decode()}


def make_result(image, box, category, score):
    return {
        "image_id": image + 1,
        "category_id": category + 1,
        "bbox": box,
        "score": score,
        "segmentation": draw_mask(box),
    }


def make_data():
    """Makes annotations and results in COCO's formats."""
    images = [
        {"id": number + 1, "file_name": f"{number}.png", "height": SIDE, "width": SIDE}
        for number in range(len(OBJECTS))
    ]
    annotations, results = [], []
    for image, objects in enumerate(OBJECTS):
        for place, category, found in objects:
            x, y, w, h = box = draw_box(place)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image + 1,
                    "category_id": category + 1,
                    "bbox": box,
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
            results += [make_result(image, draw_box(place, shift), k, score) for shift, k, score in found]
    results += [make_result(image, draw_box(place), k, score) for image, place, k, score in NOTHING]
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def write_metrics(folder, **curves):
    lines = []
    for iteration in range(19, 200, 20):
        values = {name: start / (iteration + 1) for name, start in curves.items()}
        lines.append(json.dumps({"iteration": iteration, "total_loss": 30 / (iteration + 1), **values}))
    (folder / "metrics.json").write_text("\n".join(lines) + "\n")


def write_config(folder, *options):
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(folder), "SEED", 7, *options])
    (folder / "config.yaml").write_text(cfg.dump())


def read(path: Path) -> str:
    return Path(path).read_text(encoding="utf-8")
