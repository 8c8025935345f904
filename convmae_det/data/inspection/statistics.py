"""How large objects and images are, in numbers and as histograms.

n images, m objects.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode

from ...config.checks.tiles import get_test_tile
from .inspection import Inspection
from .splits import TRAIN, Objects, Split

SIDES = (8, 16, 32, 64, 128, 256, 512)  # pixels, between bins
RATIOS = (1 / 5, 1 / 2, 1, 2, 5)  # width : height, between bins
IMAGE_SIDES = (256, 512, 768, 1024, 2048, 4096)  # pixels, between bins


class Histogram(NamedTuple):
    """Counts of something.

    Attributes:
        title: what is counted
        bins: what each bin is called
        starts: where each begins, the same in short
        counts: by the name of a data set, the number in each bin
    """

    title: str
    bins: Sequence[str]
    starts: Sequence[str]
    counts: dict[str, list[int]]


def compute_histograms(data: Inspection) -> list[Histogram]:
    """Computes those that the data have numbers for."""
    sides = {split.name: compute_input_sides(data, split, objects) for split, objects in data.annotated}
    ratios = {split.name: compute_ratios(objects) for split, objects in data.annotated}
    images = {split.name: data.sizes[split.name].max(axis=1) for split in data.loaded if len(split.paths)}
    shapes = ["below 1:5", "1:5–1:2", "1:2–1:1", "1:1–2:1", "2:1–5:1", "5:1 and more"]
    starts = ["0", "1:5", "1:2", "1:1", "2:1", "5:1"]
    size = "objects by size at the network's input, the root of the box's area in pixels"
    rows = (
        (size, SIDES, *_name_bins(SIDES), sides),
        ("objects by shape, width : height of the box", RATIOS, shapes, starts, ratios),
        ("images by size, the longer side in pixels", IMAGE_SIDES, *_name_bins(IMAGE_SIDES), images),
    )
    return [
        Histogram(title, bins, starts, {name: _count(values, edges) for name, values in by_split.items()})
        for title, edges, bins, starts, by_split in rows
        if any(map(len, by_split.values()))
    ]


def _name_bins(edges: Sequence[int]) -> tuple[list[str], list[str]]:
    """Names the bins between edges, and where they start."""
    middle = [f"{low}–{high}" for low, high in itertools.pairwise(edges)]
    return [f"below {edges[0]}", *middle, f"{edges[-1]} and more"], ["0", *map(str, edges)]


def _count(values: np.ndarray, edges: Sequence[float]) -> list[int]:
    return np.bincount(np.digitize(values, edges), minlength=len(edges) + 1).tolist()


def compute_input_sides(data: Inspection, split: Split, objects: Objects) -> np.ndarray:
    """Computes the root of each box's area in pixels of the network's input; (objects but crowds,) float."""
    scales = compute_input_scales(data.cfg, split.role, data.sizes[split.name])[objects.images]
    return (np.sqrt(objects.boxes[:, 2:].prod(axis=1)) * scales)[~objects.crowd]


def compute_ratios(objects: Objects) -> np.ndarray:
    """Computes width : height of each box; (objects but crowds,) float."""
    sides = np.maximum(objects.boxes[~objects.crowd, 2:], 1e-3)
    return sides[:, 0] / sides[:, 1]


def compute_input_scales(cfg: CfgNode, role: str, sizes: np.ndarray) -> np.ndarray:
    """Computes how many times as large images are in the input of a detector, (n,) float.

    Of large-scale jitter it is the middle, a random scale of 1; of images that are taken in tiles that of a tile.

    Args:
        cfg: of the detector
        role: TRAIN or TEST
        sizes: (n, 2) int, height and width in pixels
    """
    if tile := _get_tile(cfg, role):
        sizes = np.minimum(sizes, tile)
    shorter, longer = np.maximum(sizes.min(axis=1), 1), np.maximum(sizes.max(axis=1), 1)
    if role == TRAIN and cfg.INPUT.LSJ.ENABLED:
        return cfg.INPUT.LSJ.IMAGE_SIZE / longer
    least, most = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    if role == TRAIN:
        least, most = float(np.mean(cfg.INPUT.MIN_SIZE_TRAIN)), cfg.INPUT.MAX_SIZE_TRAIN
    return np.minimum(least / shorter, most / longer) if least else np.ones(len(sizes))


def _get_tile(cfg: CfgNode, role: str) -> int:
    return cfg.INPUT.TILE if role == TRAIN else get_test_tile(cfg)


def describe_input(cfg: CfgNode, role: str) -> str:
    """Names the keys that decide how large images are in the input of a detector, with their values."""
    tile = _get_tile(cfg, role)
    tiles = f" for tiles of {tile} pixels ({'INPUT' if role == TRAIN else 'TEST'}.TILE)" if tile else ""
    if role == TRAIN and cfg.INPUT.LSJ.ENABLED:
        return f"INPUT.LSJ.IMAGE_SIZE {cfg.INPUT.LSJ.IMAGE_SIZE}{tiles}"
    keys = ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN") if role == TRAIN else ("MIN_SIZE_TEST", "MAX_SIZE_TEST")
    return " and ".join(f"INPUT.{key} {cfg.INPUT[key]}" for key in keys) + tiles
