#!/usr/bin/env python3
"""Shows what the network sees: training images after augmentation, with their boxes, masks and classes.

    visualize_data.py --config-file configs/mask_rcnn_convmae_b.yaml [KEY VALUE ...] [--output FILE.png]
    visualize_data.py --config-file ... --split test --max-images 20 --output FOLDER

writes a picture with a row for each image: as its file and annotations have it, and beside that what the network
gets, in the order of training. --output names a file for all rows or, without .png, a folder for one file each.
Of a configuration for pretraining, which takes no annotations, it shows the random crops.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

import convmae_det  # noqa: F401  (first, for it silences what PyTorch says of Detectron2)

# isort: split
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from ..config.architectures import is_detector
from ..data.configuration import read_tool_config
from ..data.detection.catalog import dataset_dicts
from ..data.detection.jitter import build_augmentations
from ..data.detection.loader import build_train_dataset
from ..data.detection.mapper import DetectionMapper
from ..data.image import read_image
from ..data.pretraining.loader import PretrainingMapper, build_pretraining_dataset
from ..data.stream import SampleStream
from ..errors import InputError
from ..visualization.predictions import draw_instances, ground_truth
from ..visualization.sheet import draw_sheet, save_png

TITLES = ("image", "what the network sees")


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    cfg = read_tool_config(args.config_file, args.pairs, "cpu")
    images, mapper = training_data(cfg) if args.split == "train" else test_data(cfg)
    number = min(args.max_images, len(images))
    print(f"{number} of {len(images):,} images; --max-images and --seed show others.")
    metadata = MetadataCatalog.get((cfg.DATASETS.TRAIN if args.split == "train" else cfg.DATASETS.TEST)[0])
    stream = SampleStream(images, Pairs(mapper, cfg.INPUT.FORMAT, metadata), args.seed)
    rows, captions = zip(*(stream[position] for position in range(number)), strict=True)
    for path, part in files(args.output, captions):
        save_png(draw_sheet(rows[part], TITLES, captions[part]), path)
        print(f"{path} written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", metavar="FILE", required=True, help="of training or pretraining")
    parser.add_argument("--output", metavar="FILE.png|FOLDER", default="data.png", help="default: data.png")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="DATASETS.TRAIN or DATASETS.TEST")
    parser.add_argument("--max-images", metavar="N", type=int, default=8, help="how many to show (8)")
    parser.add_argument("--seed", type=int, default=0, help="of the order and the augmentation")
    parser.add_argument("pairs", metavar="KEY VALUE", nargs="*", help="settings, as of train_net.py")
    args = parser.parse_intermixed_args(arguments)
    if args.max_images < 1:
        raise InputError(f"--max-images is {args.max_images}; it must be at least 1")
    return args


def training_data(cfg: CfgNode) -> tuple[Sequence[dict], object]:
    """The images that are trained on, and what makes samples of them."""
    if not is_detector(cfg):
        mapper = PretrainingMapper(cfg)
        return build_pretraining_dataset(cfg), mapper
    mapper = DetectionMapper(cfg, True)
    return build_train_dataset(cfg), mapper


def test_data(cfg: CfgNode) -> tuple[Sequence[dict], object]:
    """The images that are evaluated on; they are resized as they are then, and keep their annotations."""
    if not is_detector(cfg):
        raise InputError("--split test: pretraining has no test data; leave it out to see the training data")
    resize = build_augmentations(cfg, False)
    mapper = DetectionMapper(**DetectionMapper.from_config(cfg, True) | {"augmentations": resize})
    return dataset_dicts(cfg.DATASETS.TEST, is_train=False, cfg=cfg), mapper


class Pairs:
    """A mapper that draws: two panels for an image of the data set, and a caption."""

    def __init__(self, mapper, image_format: str, metadata: Metadata):
        self.mapper, self.image_format, self.metadata = mapper, image_format, metadata

    def __call__(self, image: dict) -> tuple[list[np.ndarray], str]:
        sample = self.mapper(image)
        before, after = read_image(image["file_name"]), visible(sample["image"], self.image_format)
        caption = f"{os.path.basename(image['file_name'])}, {before.shape[1]}×{before.shape[0]} pixels"
        if "instances" in sample:
            annotations = [annotation for annotation in image["annotations"] if not annotation.get("iscrowd", 0)]
            caption += f", {len(annotations)} objects; beside it {after.shape[1]}×{after.shape[0]} pixels, "
            caption += f"{len(sample['instances'])} objects"
            before = draw_instances(before, ground_truth(annotations, before.shape[:2]), self.metadata)
            after = draw_instances(after, sample["instances"], self.metadata)
        return [before, after], caption


def visible(image: torch.Tensor, image_format: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of what the network gets, (C, H, W) uint8: the first three channels, or grey."""
    pixels = image.permute(1, 2, 0).numpy()[:, :, :3]
    pixels = pixels[:, :, ::-1] if image_format == "BGR" else pixels
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def files(output: str, captions: Sequence[str]) -> Iterator[tuple[str, slice]]:
    """Names of files to write, and the rows of each."""
    if output.lower().endswith(".png"):
        yield output, slice(None)
        return
    try:
        os.makedirs(output, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output} can't be made a folder ({error.strerror}): choose another") from error
    for row in range(len(captions)):
        yield os.path.join(output, f"{row + 1:04d}.png"), slice(row, row + 1)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
