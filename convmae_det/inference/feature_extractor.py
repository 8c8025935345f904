"""The encoder as a feature extractor for plain PyTorch: the maps E1–E4 of images of any size, without Detectron2.

Weights of pretraining give the plain encoder, whose stage 3 attends to all tokens; those of a detector give what the
detector's backbone gives, with its windows and relative position bias.

N images, H×W pixels, C1 C2 C3 widths of the stages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from yacs.config import CfgNode

from ..checkpoint.encoder_shape import EncoderShape
from ..checkpoint.fitting import Strictness
from ..checkpoint.formats import OFFICIAL
from ..checkpoint.loading import assign_weights
from ..checkpoint.weights import Weights, read_weights
from ..config.architectures import has_backbone
from ..config.building import build_encoder_arguments, build_window_arguments, choose_norm_eps, crops_position
from ..config.checks.model import check_windows
from ..config.presets import PRESETS
from ..config.reading import CONFIG, read_run_config
from ..errors import InputError
from ..modeling.encoder import STRIDES, Encoder, list_feature_channels, select_feature_maps
from ..modeling.window_schedule import build_attention_windows

NAME_CONFIG = f"name the {CONFIG} of the run that wrote the weights, by --config-file or config="
LARGEST = max(STRIDES.values())
GRID = (14, 14)  # of the position embedding without weights: that of pretraining on 224×224 pixels

# The schedules of the published detectors and segmentor, by their relative position bias.
PUBLISHED_SCHEDULES: dict[str, dict[str, Any]] = {
    "shared": dict(global_blocks=[], window_shift=False),
    "blocks": dict(window_shift=False),  # all blocks attend globally
    "decomposed": dict(global_blocks=[1, 4, 7, 10], window_shift=False),
}


class FeatureExtractor(nn.Module):
    """Images (N, channels, H, W) → {"e1": (N, C1, ⌈H/4⌉, ⌈W/4⌉), "e2": (N, C2, …/8), "e3": (N, C3, …/16), "e4": …/32}.

    Images are floating point, normalised as in training: for three channels RGB in 0–1, less `mean`, divided by `std`
    (ImageNet's, as torchvision's and timm's). As in the detector, they are padded with zeros below and on the right to
    multiples of 32, and no norm is applied to the maps, of which E4 is E3's 2×2 max-pool. Cells that only see padding
    are cut off.
    """

    def __init__(
        self,
        encoder: Encoder,
        features: Sequence[str] = tuple(STRIDES),
        mean: Sequence[float] | None = IMAGENET_DEFAULT_MEAN,
        std: Sequence[float] | None = IMAGENET_DEFAULT_STD,
        image_format: str | None = "RGB",
    ):
        """Takes an encoder.

        Args:
            encoder: without a final norm
            features: names of the maps to return
            mean: of each channel, values being 0–1; None: unknown
            std: of each channel, values being 0–1; None: unknown
            image_format: the channels, as INPUT.FORMAT names them; None: unknown

        Raises:
            InputError: `features` are not names of maps.
        """
        super().__init__()
        unknown = [name for name in features if name not in STRIDES]
        if unknown or not features or isinstance(features, str):
            raise InputError(f"features is {features!r}; it takes a list of some of {', '.join(STRIDES)}")
        self.encoder = encoder
        self.features = tuple(features)
        self.mean, self.std, self.image_format = mean, std, image_format
        self.in_channels = encoder.stage1.patch_embed.proj.in_features // 16
        channels = list_feature_channels(encoder.embed_dims)
        self.channels = {name: channels[name] for name in self.features}
        self.strides = {name: STRIDES[name] for name in self.features}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Computes the maps of a batch of images.

        Raises:
            InputError: `images` is no batch, not floating point, or has another number of channels.
        """
        self._check(images)
        height, width = images.shape[-2:]
        below, right = (count_cells(side, LARGEST) * LARGEST - side for side in (height, width))
        padded = F.pad(images, (0, right, 0, below))
        maps = select_feature_maps(self.encoder(padded), self.features)
        sizes = {
            name: (count_cells(height, stride), count_cells(width, stride)) for name, stride in self.strides.items()
        }
        return {name: maps[name][..., :h, :w] for name, (h, w) in sizes.items()}

    def _check(self, images: torch.Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != self.in_channels or 0 in images.shape:
            raise InputError(
                f"images are {tuple(images.shape)}; the encoder takes (N, {self.in_channels}, H, W), one image or more"
            )
        if not images.is_floating_point():
            kind = str(images.dtype).removeprefix("torch.")
            raise InputError(f"images are {kind}; the encoder takes normalised floating point: (0–1 − mean) / std")


def count_cells(side: int, stride: int) -> int:
    """Counts the cells of a map along a side of so many pixels, ⌈side/stride⌉.

    Both are positive: ONNX, in whose files these operations are found, rounds negative quotients towards zero.
    """
    return (side + stride - 1) // stride


def create_encoder(
    arch: str | Mapping | None = None,
    pretrained: str | Path | None = None,
    *,
    config: str | Path | None = None,
    features: Sequence[str] = tuple(STRIDES),
    in_channels: int | None = None,
    drop_path_rate: float = 0.0,
    adapt_channels: bool = False,
) -> FeatureExtractor:
    """Creates the encoder `arch` with the weights `pretrained`, in training mode, all parameters trainable.

    Args:
        arch: tiny, small, base, large or huge, or for other widths a dict like those of config/presets.py; None: that
            of `pretrained`, or base without it
        pretrained: a file in any format that docs/checkpoints.md lists, of pretraining or a detector
        config: the config.yaml of the run that wrote it, needed for what weights don't contain, the windows of a
            detector and the heads of other widths; None: the one beside `pretrained`, if there is one
        features: names of the maps to return
        in_channels: None: those of `pretrained`, or 3 without it
        drop_path_rate: of stochastic depth, for training
        adapt_channels: whether `in_channels` may differ from those of `pretrained`, whose first layer is then adapted

    Raises:
        InputError: no such architecture; a file that can't be read, is of another architecture, or needs a `config`
            that doesn't exist or describes another network.
    """
    preset = find_preset(arch)
    if not 0 <= drop_path_rate < 1:
        raise InputError(f"drop_path_rate is {drop_path_rate}; it must be at least 0 and below 1")
    if pretrained is None:
        arguments: dict[str, Any] = dict(
            preset or PRESETS["base"], in_channels=3 if in_channels is None else in_channels, grid=GRID
        )
        encoder = Encoder(**arguments, final_norm=False, drop_path_rate=drop_path_rate)
        return FeatureExtractor(encoder, features, **describe_input(None, arguments["in_channels"]))
    weights = read_weights(pretrained)
    shape = weights.shape
    check_shape(shape, preset, None if adapt_channels else in_channels, weights.path)
    channels = shape.in_channels if in_channels is None else in_channels
    cfg = find_run_config(config, weights)
    arguments = build_plain_arguments(shape, preset, cfg, weights.path) | build_detection_arguments(weights, cfg)
    arguments["in_channels"] = channels
    model = FeatureExtractor(
        Encoder(**arguments, final_norm=False, drop_path_rate=drop_path_rate),
        features,
        **describe_input(cfg if channels == shape.in_channels else None, channels),
    )
    strictness = Strictness.EXACT if is_of_detector(weights) else Strictness.ENCODER
    assign_weights(model, weights, strictness, other_channels=adapt_channels)
    return model


def find_preset(arch: str | Mapping | None) -> Mapping | None:
    """Returns the widths, depths, heads and MLP ratios that `arch` stands for; None for None.

    Raises:
        InputError: no such architecture.
    """
    keys = ", ".join(PRESETS["base"])
    if isinstance(arch, Mapping) and set(arch) != set(PRESETS["base"]):
        raise InputError(f"arch is {dict(arch)}; a dict must have the keys {keys}, and no others")
    if arch is None or isinstance(arch, Mapping):
        return arch
    if arch not in PRESETS:
        raise InputError(f"arch is {arch!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[arch]


def has_same_widths(shape: EncoderShape, preset: Mapping) -> bool:
    """Whether a preset has the widths, depths and MLP ratios of a shape."""
    return all(tuple(preset[key]) == tuple(getattr(shape, key)) for key in ("embed_dims", "depths", "mlp_ratios"))


def check_shape(shape: EncoderShape, preset: Mapping | None, in_channels: int | None, path: str) -> None:
    """Checks that the file's encoder is what the caller asked for.

    Raises:
        InputError: it isn't.
    """
    if preset is not None and not has_same_widths(shape, preset):
        raise InputError(f"{path} is an encoder {shape}, not what arch says: leave arch out, or name that one")
    if in_channels not in (None, shape.in_channels):
        advice = "leave in_channels out, or adapt the first layer by adapt_channels=True"
        raise InputError(f"{path} takes {shape.in_channels} channels, not {in_channels}: {advice}")


def is_of_detector(weights: Weights) -> bool:
    """Whether the weights are those of a detector."""
    return (weights.prefix or "").startswith("backbone.") or weights.shape.relative_position != "none"


def find_run_config(path: str | Path | None, weights: Weights) -> CfgNode | None:
    """Reads the configuration at `path`; for None, the one beside the weights if there is one that describes them.

    Raises:
        InputError: the file at `path` can't be read or describes another network.
    """
    try:
        cfg = read_run_config(path or Path(weights.path).expanduser().with_name(CONFIG))
    except InputError:
        if path is None:
            return None
        raise
    fits = has_same_widths(weights.shape, build_encoder_arguments(cfg)) and (
        has_backbone(cfg) or not is_of_detector(weights)
    )
    if path and not fits:
        raise InputError(
            f"{path} doesn't describe {weights.path}, {weights.format.name}, {weights.shape}: {NAME_CONFIG}"
        )
    return cfg if fits else None


def build_plain_arguments(shape: EncoderShape, preset: Mapping | None, cfg: CfgNode | None, path: str) -> dict:
    """Builds arguments of the file's encoder as in pretraining: global attention, the file's position table.

    Raises:
        InputError: the number of attention heads is unknown.
    """
    known = build_encoder_arguments(cfg) if cfg else preset or PRESETS.get(shape.preset or "", {})
    heads = shape.num_heads or known.get("num_heads")
    if not heads:
        raise InputError(f"{path} doesn't contain the number of attention heads of its encoder: {NAME_CONFIG}")
    return dict(
        embed_dims=shape.embed_dims,
        depths=shape.depths,
        mlp_ratios=shape.mlp_ratios,
        num_heads=heads,
        in_channels=shape.in_channels,
        conv_kernel_size=shape.kernel_size,
        grid=shape.position_grid or GRID,
    )


def build_detection_arguments(weights: Weights, cfg: CfgNode | None) -> dict:
    """Builds what a detector's encoder has beside :func:`build_plain_arguments`; empty for weights of pretraining.

    Raises:
        InputError: the windows are unknown.
    """
    shape = weights.shape
    if not is_of_detector(weights):
        return {}
    if cfg is not None:
        check_windows(cfg)
        schedule: dict[str, Any] = build_window_arguments(cfg)
    elif weights.format.layout == OFFICIAL and shape.relative_position in PUBLISHED_SCHEDULES:
        everywhere = {"global_blocks": list(range(shape.depths[2])), "window_size": shape.window_size}
        schedule = {**everywhere, **PUBLISHED_SCHEDULES[shape.relative_position]}
    else:
        raise InputError(
            f"{weights.path} is of a detector, but weights don't contain the windows of its attention: {NAME_CONFIG}"
        )
    return choose_norm_eps(shape.relative_position) | dict(
        learned_position=True,
        windows=build_attention_windows(shape.depths[2], **schedule),
        crop_position=crops_position(shape.relative_position),
        relative_position=shape.relative_position,
        relative_grid=(shape.global_grid,) * 2 if shape.global_grid else None,
    )


def describe_input(cfg: CfgNode | None, in_channels: int) -> dict[str, Any]:
    """Returns what a FeatureExtractor knows of its images: mean, std and image_format; None where they are unknown."""
    if cfg is not None:
        mean, std = (tuple(value / 255 for value in cfg.MODEL[key]) for key in ("PIXEL_MEAN", "PIXEL_STD"))
        return dict(mean=mean, std=std, image_format=cfg.INPUT.FORMAT)
    if in_channels == 3:
        return dict(mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD, image_format="RGB")
    return dict(mean=None, std=None, image_format=None)
