"""Encoders as files.

The file takes and gives what :class:`..feature_extractor.FeatureExtractor` does: normalised images (N, C, H, W)
float32 of any size → the maps e1, e2, e3, e4, (N, C1, ⌈H/4⌉, ⌈W/4⌉) … float32.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torchvision.transforms.v2 import functional as transforms

from ...checkpoint.weights import read_weights
from ...data.image import read_image
from ...errors import InputError
from ..feature_extractor import FeatureExtractor, create_encoder
from .tracing import TraceableNetwork
from .verification import Report, export_network, format_size, require_packages

SIDES = (224, 1024)  # pixels: the shorter side that an encoder is compared at, and the largest of the longer one


def export_encoder(
    weights: str,
    image_file: str,
    format: str,
    report: Report = print,
    *,
    config: str | Path | None = None,
    device: str = "cpu",
) -> bytes:
    """Exports an encoder as `create_encoder` gives it, and compares the result on an image and on two smaller ones.

    The image is resized. The smaller ones are its upper three quarters, whose sides are no multiple of a stride, and
    their mirror image, in one batch.

    Args:
        weights: the path of a checkpoint with an encoder
        image_file: any photo, used for tracing and for the comparison
        format: one of FORMATS
        report: called with progress, and with the result of the comparison
        config: as for `create_encoder`
        device: for which it is traced; for ONNX the CPU

    Returns:
        The content of the file; see above for its inputs and outputs.

    Raises:
        InputError: the maps differ from those of eager mode by more than rounding; the weights or the image can't be
            read; or a package that the format needs is missing.
    """
    require_packages(format)
    extractor = create_encoder(pretrained=weights, config=config).to(device)
    images = _read_normalised(image_file, extractor).to(device)
    encoder = ExportableEncoder(extractor)
    report(f"Exporting the encoder, traced on {image_file} at {format_size(images)} pixels")
    height, width = (_make_odd(side) for side in (3 * images.shape[2] // 4, images.shape[3]))
    upper = images[..., :height, :width]
    examples = [images, torch.cat([upper, upper.flip(-1)])]
    return export_network(encoder, examples, describe_encoder(extractor), format, compare_maps, report)


def refuse_whole_detector(weights: str) -> None:
    """Checks that a file isn't a detector's, whose configuration must be named if it is to be exported.

    Raises:
        InputError: it has heads.
    """
    content = read_weights(weights)
    backbone = "backbone."
    if (content.prefix or "").startswith(backbone) and not all(name.startswith(backbone) for name in content.tensors):
        raise InputError(
            f"{weights} is a detector: name the config.yaml of its run with --config-file, or export its encoder alone "
            "with --encoder"
        )


def _read_normalised(image_file: str, extractor: FeatureExtractor) -> torch.Tensor:
    """Reads an image as an encoder takes it, (1, C, H, W) float32.

    Raises:
        InputError: it can't be read, or the meaning of the encoder's channels is unknown.
    """
    mean, std = extractor.mean, extractor.std
    if extractor.image_format is None or mean is None or std is None:
        raise InputError(
            f"the encoder takes {extractor.in_channels} channels, and which ones the weights don't tell: name the "
            "config.yaml of the run that wrote them with --config-file"
        )
    pixels = torch.from_numpy(read_image(image_file, extractor.image_format)).permute(2, 0, 1)
    side, largest = SIDES
    resized = transforms.resize(pixels, [side], max_size=largest, antialias=True)
    return transforms.normalize(resized / 255, list(mean), list(std))[None]


def _make_odd(side: int) -> int:
    """Returns the largest odd number up to `side`, at least 1."""
    return max(0, side - 1) | 1


class ExportableEncoder(TraceableNetwork):
    """An encoder on tensors: images → its maps, in the order of their names (see above)."""

    def __init__(self, extractor: FeatureExtractor):
        """Takes an encoder, in evaluation mode from now on."""
        super().__init__()
        self.extractor = extractor
        self.input_axes = {"images": {0: "number", 2: "height", 3: "width"}}
        self.output_axes = {name: {0: "number", 2: f"{name}_height", 3: f"{name}_width"} for name in extractor.features}
        self.eval()

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.extractor(images).values())


def describe_encoder(extractor: FeatureExtractor) -> str:
    """Describes the encoder as JSON: how to make its input, and the strides of its maps in pixels.

    `channels`, `mean` and `std`, for values of 0–1, are null where the weights came without a configuration and don't
    tell.
    """
    return json.dumps(
        {
            "channels": extractor.image_format,
            "mean": extractor.mean,
            "std": extractor.std,
            "strides": extractor.strides,
        }
    )


class MapComparison(NamedTuple):
    """The largest difference between two runs within a map, relative to the map's largest value, over all maps."""

    difference: float  # infinite for maps of different sizes

    LARGEST = 1e-3

    @property
    def agrees(self) -> bool:
        return self.difference <= self.LARGEST

    def __str__(self) -> str:
        return f"largest difference between eager mode and the file: {self.difference:.1e} of a map's largest value"


def compare_maps(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> MapComparison:
    """Compares the maps of two runs, each as :class:`ExportableEncoder` returns them."""
    if [a.shape for a in expected] != [b.shape for b in found]:
        return MapComparison(math.inf)
    differences = [(a - b).abs().max() / a.abs().max() for a, b in zip(expected, found, strict=True)]
    return MapComparison(float(torch.stack(differences).max()))  # NaN if one is
