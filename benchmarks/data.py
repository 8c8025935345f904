"""Reading images for training: our loaders against torchvision's and Detectron2's own forms.

The plain form of pretraining is that of MAE's and ConvMAE's published code: Pillow decodes and resizes, torchvision's
ToTensor and Normalize make floats. That of detection is Detectron2's stock mapper with our augmentations, which draws
the same ones in our loader. All run in this process on one thread, as each of a loader's workers does.
"""

import argparse
import functools
import os
import tempfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from convmae_det.config import add_convmae_config
from convmae_det.costs.measuring import describe_machine, measure_medians
from convmae_det.data.detection.jitter import build_augmentations
from convmae_det.data.detection.mapper import DetectionMapper
from convmae_det.data.image import read_image
from convmae_det.data.pretraining.folders import list_images
from convmae_det.data.pretraining.loader import build_pretraining_loader
from convmae_det.data.stream import build_stream_loader
from convmae_det.errors import InputError

PLAIN, OURS = "plain form", "convmae_det"
BATCH = 16
OBJECTS = 7  # in an image, as in COCO


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", metavar="FOLDER", help="of real ones; without it, photograph-like noise")
    parser.add_argument("--count", type=int, default=128, help=f"images in a turn, rounded up to a multiple of {BATCH}")


def measure(args: argparse.Namespace) -> dict:
    """Images a second of each loader in both forms, and their ratio."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            if not args.images:
                write_images(Path(folder), args.count)
            items = describe(args.images or folder, args.count)
            cfg = configuration()
            loaders = {"pretraining": pretraining_loaders(items, cfg), "detection": detection_loaders(items, cfg)}
            passes = {
                (task, form): reader(build, len(items)) for task in loaders for form, build in loaders[task].items()
            }
            seconds, measured_on = measure_medians(passes, args.repeats, "cpu"), describe_machine("cpu")
    finally:
        torch.set_num_threads(threads)
    return {
        **measured_on,
        "images": {
            "source": args.images or "noise",
            "count": len(items),
            "mean_megapixels": float(np.mean([item["height"] * item["width"] for item in items])) / 1e6,
            "mean_kilobytes": float(np.mean([item["bytes"] for item in items])) / 1e3,
        },
        "loaders": {
            task: compare({form: len(items) / seconds[task, form] for form in loaders[task]}) for task in loaders
        },
    }


def compare(rates: dict[str, float]) -> dict:
    return {"images_per_second": rates, "speedup": rates[OURS] / rates[PLAIN]}


def report(result: dict) -> None:
    images = result["images"]
    print(
        f"{images['count']} images ({images['source']}), {images['mean_megapixels']:.2f} megapixels and "
        f"{images['mean_kilobytes']:.0f} kB on average; {result['device']}, torch {result['torch']}"
    )
    for task, figures in result["loaders"].items():
        for form, rate in figures["images_per_second"].items():
            print(f"{task:12} {form:12} {rate:8.1f} images/s")
        print(f"{task:12} {figures['speedup']:.2f} times as fast")


def write_images(folder: Path, count: int) -> None:
    """JPEGs of noise at all scales, of about as many bytes as photographs; 500×375, quality 90."""
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = np.full((375, 500, 3), 128.0)
        for octave in range(8):
            noise = rng.standard_normal((3, (375 >> octave) + 1, (500 >> octave) + 1)).astype(np.float32)
            layers = [Image.fromarray(layer).resize((500, 375), Image.Resampling.BICUBIC) for layer in noise]
            pixels += 7 * 1.3**octave * np.stack(layers, axis=-1)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)


def describe(folder: str, count: int) -> list[dict]:
    """Images of the folder in Detectron2's format, each with OBJECTS polygons; from the start again if it has few."""
    count = -(-max(count, 1) // BATCH) * BATCH
    files = [file["file_name"] for file in islice(list_images(os.path.realpath(folder)), count)]
    items = {}
    for name in files:
        try:
            height, width, _ = read_image(name).shape
        except InputError as error:
            print(f"left out: {error}")
        else:
            size = {"height": height, "width": width, "bytes": os.path.getsize(name)}
            items[name] = {"file_name": name, "image_id": len(items), **size, "annotations": objects(height, width)}
    if not items:
        raise InputError(f"{folder} holds no image that can be read: name another with --images")
    return [list(items.values())[number % len(items)] for number in range(count)]


def objects(height: int, width: int) -> list[dict]:
    rng = np.random.default_rng((height, width))
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    annotations = []
    for _ in range(OBJECTS):
        extent = rng.uniform(0.05, 0.3, 2) * (width, height)
        corners = rng.uniform(0.3, 0.7, 2) * (width, height) + np.stack([np.cos(angles), np.sin(angles)], 1) * extent
        annotations.append(
            {
                "bbox": [*corners.min(0), *corners.max(0)],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": 0,
                "segmentation": [corners.ravel().tolist()],
                "iscrowd": 0,
            }
        )
    return annotations


def reader(build: Callable[[], Iterable], count: int) -> Callable[[], None]:
    """A function that reads each of `count` images once."""

    def read() -> None:
        for _ in islice(build(), count // BATCH):
            pass

    return read


def configuration() -> CfgNode:
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.merge_from_list(["SEED", 0, "SOLVER.IMS_PER_BATCH", BATCH, "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["MODEL.MASK_ON", True, "INPUT.FORMAT", "RGB"])
    return cfg


class PlainImages(Dataset):
    """What MAE's published code makes of an image file: (3, 224, 224) float32, normalised."""

    def __init__(self, items: list[dict], cfg: CfgNode):
        size, scale = cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE, cfg.INPUT.PRETRAIN_CROP_SCALE
        self.items = items
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.items[index]["file_name"]) as image:
            return self.transform(image.convert("RGB"))


def pretraining_loaders(items: list[dict], cfg: CfgNode) -> dict[str, Callable[[], Iterable]]:
    return {
        PLAIN: lambda: DataLoader(PlainImages(items, cfg), BATCH, shuffle=True),
        OURS: lambda: build_pretraining_loader(cfg, dataset=items),
    }


def detection_loaders(items: list[dict], cfg: CfgNode) -> dict[str, Callable[[], Iterable]]:
    stock = DatasetMapper(
        is_train=True,
        augmentations=build_augmentations(cfg, True),
        image_format=cfg.INPUT.FORMAT,
        use_instance_mask=True,
        recompute_boxes=True,
    )
    mappers = {PLAIN: stock, OURS: DetectionMapper(cfg, True)}
    return {form: functools.partial(build_stream_loader, cfg, items, mapper) for form, mapper in mappers.items()}
