"""Features of whole data sets from a frozen encoder: each map's mean over its cells.

N images, D features of each: C3, or C1 + C2 + C3 of all scales.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_context
from detectron2.utils import comm
from torch.utils.data import ConcatDataset
from tqdm import tqdm

from ..checkpoint.weights import read_weights
from ..config.building import build_encoder_arguments, list_sides
from ..config.checks.data import check_channels
from ..config.checks.model import check_size
from ..data.configuration import read_tool_config
from ..data.image import DEFAULT, Decoding
from ..data.squares import SquareDataset, SquareLoader
from ..data.stream import count_workers
from ..data.survey import spread_indices
from ..errors import InputError
from ..modeling.encoder import STRIDE, Encoder
from ..precision import speed_up_float32
from .feature_extractor import NAME_CONFIG, create_encoder, describe_input, find_run_config

SCALES = {"e3": ("e3",), "all": ("e1", "e2", "e3")}  # maps that are pooled
BATCH_PIXELS = 2**22  # of the images that go through the encoder at once,
BATCH_SIZE = 256  # which are at most this many
LARGEST_DEFAULT = 224  # pixels
MOST_TRIED = 32  # images in search of one that can be read


class PooledFeatures(NamedTuple):
    """Features of the images that could be read."""

    features: torch.Tensor  # (N, D) float32
    indices: torch.Tensor  # (N,) int64: of these images in the data set
    skipped: list[tuple[str, str]]  # file and reason of the others


@dataclass
class FeaturePooler:
    """Computes the features of images with an encoder, on its device and in float32.

    Attributes:
        encoder: in any mode, which it keeps
        size: side in pixels of the square that is taken from the middle of each image, or its height and width
        mean: of each channel, values being 0–1
        std: of each channel, values being 0–1
        image_format: as INPUT.FORMAT names it
        decoding: of the files
        scales: which maps are pooled, a key of SCALES
        workers: processes that read images
    """

    encoder: Encoder
    size: int | Sequence[int]
    mean: Sequence[float]
    std: Sequence[float]
    image_format: str = "RGB"
    decoding: Decoding = field(default=DEFAULT)
    scales: str = "e3"
    workers: int = 0

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def pool(self, images: Sequence[dict] | ConcatDataset, indices: Sequence[int], title: str) -> PooledFeatures:
        """Computes the features of some images of a data set.

        Args:
            images: in Detectron2's format
            indices: of those that are wanted, at least one
            title: of the line that shows progress
        """
        batch_size = min(BATCH_SIZE, max(1, BATCH_PIXELS // math.prod(list_sides(self.size))))
        dataset = SquareDataset(images, self.size, self.image_format, self.decoding)
        loader = SquareLoader(dataset, indices, batch_size, self.workers)
        width = sum(self.encoder.embed_dims if self.scales == "all" else self.encoder.embed_dims[-1:])
        disable = None if comm.is_main_process() else True  # None: where there is no terminal
        features, places, skipped = [torch.empty(0, width)], [torch.empty(0, dtype=torch.int64)], []
        with (
            inference_context(self.encoder),
            torch.inference_mode(),
            tqdm(total=len(indices), desc=title, unit=" images", delay=1, disable=disable) as progress,
        ):
            for batch in loader:
                skipped += batch.skipped
                if len(batch.indices):
                    features.append(self._pool_batch(batch.images.to(self.device, non_blocking=True)).cpu())
                    places.append(batch.indices)
                progress.update(len(batch.indices) + len(batch.skipped))
        return PooledFeatures(torch.cat(features), torch.cat(places), skipped)

    def check_readable(self, images: Sequence[dict]) -> None:
        """Reads images of a data set, evenly spread, until one can be read.

        Raises:
            InputError: of the first, if MOST_TRIED can't be read.
        """
        dataset = SquareDataset(images, self.size, self.image_format, self.decoding)
        errors = []
        for index in spread_indices(len(images), MOST_TRIED):
            _, _, found = dataset[index]
            if not isinstance(found, InputError):
                return
            errors.append(found)
        raise errors[0]

    def _pool_batch(self, images: torch.Tensor) -> torch.Tensor:
        """(n, channels, H, W) uint8 → (n, D)"""
        mean, std = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (self.mean, self.std))
        stages = self.encoder((images.float() / 255 - mean) / std)
        return torch.cat([stages[int(name[1]) - 1].mean((1, 2)).float() for name in SCALES[self.scales]], dim=1)


def build_pooler(cfg: CfgNode, encoder: Encoder) -> FeaturePooler:
    """Builds the pooler of E3 for an encoder in pretraining, at the size of its crops."""
    return FeaturePooler(
        encoder,
        size=cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE,
        decoding=Decoding.from_config(cfg),
        workers=count_workers(cfg),
        **describe_input(cfg, len(cfg.MODEL.PIXEL_MEAN)),
    )


def load_pooler(
    weights: str, config_file: str, device: str, size: int = 0, scales: str = "e3", workers: int = 0
) -> FeaturePooler:
    """Builds the pooler of the encoder in a file, or of a random one.

    Args:
        weights: of pretraining, a classifier or a detector, as for `create_encoder`; empty: random ones
        config_file: as for `create_encoder`, empty for None; with random weights, any configuration of ours
        device: cpu, cuda or cuda:N
        size: of FeaturePooler; 0: that of the encoder's position embedding, at most LARGEST_DEFAULT
        scales: of FeaturePooler
        workers: of FeaturePooler

    Raises:
        InputError: a file that can't be used, no configuration where one is needed, or a size that can't be encoded.
    """
    if weights:
        encoder = create_encoder(pretrained=weights, config=config_file or None).encoder
        cfg = find_run_config(config_file or None, read_weights(weights))
    elif config_file:
        cfg = read_tool_config(config_file, device=device)
        check_channels(cfg)
        encoder = Encoder(**build_encoder_arguments(cfg), final_norm=False)
    else:
        raise InputError("--weights none is an encoder with random weights: describe it with --config-file")
    images = describe_input(cfg, encoder.stage1.patch_embed.proj.in_features // 16)
    if images["mean"] is None:
        raise InputError(f"{weights} doesn't say how its images are normalised, which are not RGB: {NAME_CONFIG}")
    size = size or min(LARGEST_DEFAULT, STRIDE * max(encoder.stage3.position_embedding.table.shape[1:3]))
    check_size("--size", size)
    decoding = Decoding.from_config(cfg) if cfg else DEFAULT
    speed_up_float32(device, cfg.FLOAT32_PRECISION if cfg else "")
    return FeaturePooler(encoder.to(device), size, decoding=decoding, scales=scales, workers=workers, **images)
