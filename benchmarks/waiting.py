"""How long training waits for images that other processes read meanwhile."""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks import data
from convmae_det.config.keys import AUTO

STEPS = 6  # that are timed
WARM_UP = 2  # that aren't, before them


def measure_waiting(kind: str, size: int, args: argparse.Namespace, train_on: Callable[[object], None]) -> float:
    """Measures the share of the time of training steps in which there is no batch yet, with as many readers as cores.

    Args:
        kind: of pretraining or of a detector
        size: pixels along the side of an image
        args: with `batch`, `device`, and `images`, a folder; None: images that are made for it
        train_on: makes a step on a batch
    """
    with tempfile.TemporaryDirectory() as folder:
        if not args.images:
            data.write_images(Path(folder), max(args.batch, data.BATCH))
        waiting, working = 0.0, 0.0
        batches = load(kind, size, args.batch, data.describe(args.images or folder, 8 * args.batch))
        for step in range(WARM_UP + STEPS):
            start = time.perf_counter()
            batch = next(batches)
            received = time.perf_counter()
            train_on(batch)
            if args.device == "cuda":
                torch.cuda.synchronize()
            if step >= WARM_UP:
                waiting, working = waiting + received - start, working + time.perf_counter() - received
        del batches  # ends the readers before their images go
    return waiting / (waiting + working)


def load(kind: str, size: int, batch: int, items: list[dict]) -> Iterator:
    cfg = data.configuration()
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", AUTO, "SOLVER.IMS_PER_BATCH", batch])
    cfg.merge_from_list(["MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", size, "INPUT.LSJ.IMAGE_SIZE", size])
    loaders = data.pretraining_loaders if kind.startswith("pretraining") else data.detection_loaders
    return iter(loaders(items, cfg)[data.OURS]())
