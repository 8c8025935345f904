"""The kinds of files that hold weights, told apart by the names of their tensors and never by the file's name."""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch

from ..errors import InputError

WRAPPERS = ("model", "state_dict", "model_ema")  # where a file may keep its tensors; the first that is there counts
SAVED_THROUGH = ("module.", "_orig_mod.")  # put before names by DistributedDataParallel and torch.compile

OFFICIAL, OURS = "official", "ours"


class Format(NamedTuple):
    name: str  # as users read it, without article
    landmarks: tuple[str, ...]  # regular expressions, each of which is found in some name
    layout: str | None  # that of the encoder's names; None: another network, which is refused
    prefix: str = ""  # what stands before the encoder's names
    advice: str = ""  # to those who are refused


def foreign(name: str, landmark: str) -> Format:
    advice = "its layers don't fit: choose one of the ConvMAE checkpoints that docs/checkpoints.md lists"
    return Format(name, (landmark,), None, advice=advice)


PUBLISHED = r"patch_embed1\.proj\.weight$"
OWN = r"stage1\.patch_embed\.proj\.weight$"
FPN, SFP = "backbone.bottom_up.", "backbone.net."  # Detectron2's pyramid, ViTDet's simple one: where the encoder is

# The first row counts whose landmarks are all found.
FORMATS = (
    Format(
        "UperNet segmentation checkpoint",
        (PUBLISHED, r"blocks3\.0\.gamma_1$"),
        None,
        advice="its blocks carry scales and biases of their own: use the pretraining checkpoint that it was made from",
    ),
    Format("published pretraining checkpoint", (rf"^{PUBLISHED}", r"^decoder_embed\.weight$"), OFFICIAL),
    Format("published classifier", (rf"^{PUBLISHED}", r"^head\."), OFFICIAL),
    Format("published encoder", (rf"^{PUBLISHED}",), OFFICIAL),
    Format("detector of the first published code", (rf"^backbone\.bottom_up\.{PUBLISHED}",), OFFICIAL, FPN),
    Format("detector of the second published code", (rf"^backbone\.net\.{PUBLISHED}",), OFFICIAL, SFP),
    Format("pretraining checkpoint", (rf"^encoder\.{OWN}", r"^decoder\.embed\.weight$"), OURS, "encoder."),
    Format("encoder", (rf"^encoder\.{OWN}",), OURS, "encoder."),
    Format("encoder", (rf"^{OWN}",), OURS),
    Format("detector with FPN", (rf"^backbone\.bottom_up\.encoder\.{OWN}",), OURS, f"{FPN}encoder."),
    Format("detector with simple feature pyramid", (rf"^backbone\.net\.encoder\.{OWN}",), OURS, f"{SFP}encoder."),
    Format("detector without pyramid", (rf"^backbone\.encoder\.{OWN}",), OURS, "backbone.encoder."),
    foreign("Swin Transformer", r"(^|\.)layers\.0\.blocks\.0\."),
    foreign("plain ViT (MAE, DeiT, BEiT, ViTDet)", r"(^|\.)patch_embed\.proj\.weight$"),
    foreign("plain ViT (transformers)", r"embeddings\.patch_embeddings\."),
    foreign("ConvNeXt", r"(^|\.)(downsample_layers\.0\.0\.weight|stages\.0\.blocks\.0\.conv_dw\.weight)$"),
    foreign("ConvNeXt (torchvision)", r"(^|\.)features\.1\.0\.layer_scale$"),
    foreign("ResNet", r"(^|\.)(stem\.conv1|res2\.0\.conv1|layer1\.0\.conv1)\.weight$"),
)


def unwrap(checkpoint: Mapping[str, Any], path: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a file by name, and its other entries (epoch, optimizer, …). `path` is named in errors."""
    entries = dict(checkpoint)
    wrapper = next((key for key in WRAPPERS if isinstance(entries.get(key), Mapping)), None)
    state = entries.pop(wrapper) if wrapper else entries
    tensors = {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        found = f"only {', '.join(map(str, checkpoint))}" if checkpoint else "nothing"
        raise InputError(f"{path} holds no weights, {found}: name a file whose tensors lie under {', '.join(WRAPPERS)}")
    if state is entries:
        entries = {name: value for name, value in entries.items() if name not in tensors}
    for prefix in SAVED_THROUGH:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors, entries


def recognise(names: Collection[str], path: Any) -> Format:
    """The format of a file with these tensors. Raises InputError if it is none of ConvMAE, naming what it is."""
    text = "\n".join(names)
    for format in FORMATS:
        if all(re.search(landmark, text, re.MULTILINE) for landmark in format.landmarks):
            if format.layout is None:
                raise InputError(f"{path} holds the weights of another network, {format.name}; {format.advice}")
            return format
    few = ", ".join(sorted(names)[:3])
    raise InputError(
        f"{path} holds no ConvMAE encoder (its tensors: {few}, …); choose one that docs/checkpoints.md lists"
    )
