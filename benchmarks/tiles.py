"""A large image in tiles, and shrunk to what the network takes: how much is found, how long it takes, in which memory.

The image is a mosaic of a data set's images, so that a detector of these sees in each tile what it was trained on. Each
prediction is a command of its own, with its pictures and results, whose peak of the resident set is measured: of a
JPEG, which is decoded whole, and of a tiled TIFF, which is read by window.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from convmae_det.costs.measuring import describe_machine
from convmae_det.data.detection.outlines import encode_outline
from convmae_det.data.image import read_image
from convmae_det.data.runs import Runs
from convmae_det.errors import InputError
from convmae_det.evaluation.coco import fill_areas
from convmae_det.evaluation.metrics import evaluate_results
from convmae_det.evaluation.results_file import count_most

# A program that runs another one, and then says how much memory that has taken, in kilobytes.
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", required=True, help="of a detector")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--annotations", required=True, metavar="FILE.json", help="of images of one size")
    parser.add_argument("--images", required=True, metavar="FOLDER")
    parser.add_argument("--side", type=int, default=1280, help="pixels of the mosaic")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--batch", type=int, default=8, help="tiles in a pass")
    parser.add_argument("--pairs", nargs="*", default=[], metavar="KEY VALUE", help="settings of the configuration")


def measure(args: argparse.Namespace) -> dict:
    """Average precision, seconds and memory of each way."""
    pixels, truth = build_mosaic(Path(args.annotations), Path(args.images), args.side)
    ways = {}
    with tempfile.TemporaryDirectory() as folder:
        jpeg, tiff = Path(folder, "mosaic.jpg"), Path(folder, "mosaic.tif")
        Image.fromarray(pixels).save(jpeg, quality=95, subsampling=0)
        tifffile.imwrite(tiff, pixels, photometric="rgb", tile=(256, 256), compression="zlib")
        runs = {"shrunk": (jpeg, 0), "tiles, JPEG": (jpeg, args.tile), "tiles, TIFF": (tiff, args.tile)}
        for name, (path, tile) in runs.items():
            ways[name] = predict(args, path, tile, Path(folder, name)) | {"objects": len(truth["annotations"])}
            results = json.loads(Path(folder, name, "results.json").read_text())
            scores = evaluate_results(truth, results, ["bbox", "segm"], count_most(results))
            ways[name]["found"] = len(results)
            for task, measures in scores.items():
                ways[name][task] = measures.get(f"AP@{count_most(results)}", measures["AP"])
    shape = {"side": args.side, "tile": args.tile, "overlap": args.overlap}
    return {**describe_machine("cpu"), **shape, "ways": ways}


def build_mosaic(annotations: Path, folder: Path, side: int) -> tuple[np.ndarray, dict]:
    """Builds an image, (side, side, 3) uint8, and its annotations, of as many images as fit, in turns."""
    content = json.loads(annotations.read_text())
    images, size = content["images"], content["images"][0]["height"]
    if any((image["height"], image["width"]) != (size, size) for image in images) or side < size:
        raise InputError(f"{annotations} must list squares of one size, of at most --side {side} pixels")
    pixels = np.zeros((side, side, 3), np.uint8)
    read = [read_image(folder / image["file_name"]) for image in images]
    objects = []
    for place in range((side // size) ** 2):
        top, left = (size * number for number in divmod(place, side // size))
        pixels[top : top + size, left : left + size] = read[place % len(read)]
        for annotation in content["annotations"]:
            if annotation["image_id"] != images[place % len(read)]["id"]:
                continue
            x, y, width, height = annotation["bbox"]
            mask = Runs.from_coco(encode_outline(annotation["segmentation"], size, size)).move(top, left)
            moved = {"id": len(objects) + 1, "image_id": 1, "bbox": [x + left, y + top, width, height], "iscrowd": 0}
            objects.append(moved | {"category_id": annotation["category_id"], "segmentation": mask.to_coco(side, side)})
    image = {"id": 1, "file_name": "mosaic", "height": side, "width": side}
    truth = {"images": [image], "annotations": objects, "categories": content["categories"]}
    fill_areas(truth)
    return pixels, truth


def predict(args: argparse.Namespace, path: Path, tile: int, output: Path) -> dict:
    """Runs the command; returns its seconds, and its peak of the resident set in GB."""
    command = [sys.executable, "-m", "convmae_det", "predict", "--config-file", args.config_file]
    command += ["--weights", args.weights, "--output", str(output), "--tile", str(tile)]
    command += ["--overlap", str(args.overlap), "--batch-size", str(args.batch)] if tile else []
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    start = time.perf_counter()
    words = [sys.executable, "-c", MEASURED, *command, *args.pairs, str(path)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return {"seconds": time.perf_counter() - start, "memory": int(done.stdout.split()[-1]) / 2**20}


def report(result: dict) -> None:
    side, machine = result["side"], f"{result['device']}, torch {result['torch']}"
    print(f"{side}×{side} pixels, tiles of {result['tile']} with {result['overlap']:.0%} in common; {machine}\n")
    for name, way in result["ways"].items():
        print(
            f"{name:12} {way['found']:6} of {way['objects']} objects, box AP {way['bbox']:5.1f}, mask AP "
            f"{way['segm']:5.1f} {way['seconds']:8.1f} s {way['memory']:6.2f} GB"
        )
