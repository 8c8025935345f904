"""Recognises the kinds of files with weights by the names of their tensors, never by the file's name."""

import re
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from ..errors import InputError
from .conversion import CLASSIFIER

OFFICIAL, OURS = "official", "ours"


class Format(NamedTuple):
    """A kind of file with weights, and how to recognise it."""

    name: str  # for messages, without article
    landmarks: tuple[str, ...]  # regular expressions, each of which is found in some name
    layout: str | None  # that of the encoder's names; None: another network, which is refused
    prefix: str = ""  # what stands before the encoder's names
    advice: str = ""  # what to do, if the format is refused

    def matches(self, names: Iterable[str]) -> bool:
        text = "\n".join(names)
        return all(re.search(landmark, text, re.MULTILINE) for landmark in self.landmarks)


def build_other_format(name: str, landmark: str) -> Format:
    """Builds the format of another network, which is refused."""
    advice = "its layers don't fit: choose one of the ConvMAE checkpoints that docs/checkpoints.md lists"
    return Format(name, (landmark,), None, advice=advice)


PUBLISHED = r"patch_embed1\.proj\.weight$"
OWN = r"stage1\.patch_embed\.proj\.weight$"
BEFORE_ENCODER = re.compile(rf"(|.*\.)(?:{PUBLISHED}|{OWN})")
DETECTION = r"^(proposal_generator|roi_heads|sem_seg_head|head\.cls_score)\.|_bias\.table$|\.rel_pos_h$"
FPN, SFP = "backbone.bottom_up.", "backbone.net."  # Detectron2's pyramid, ViTDet's simple one: where the encoder is
SEGMENTOR = "backbone."

# The first row is used whose prefix matches, and whose landmarks are all found.
FORMATS = (
    Format(
        "UPerNet of the first published code",
        (rf"^backbone\.{PUBLISHED}", r"^decode_head\.conv_seg\.weight$"),
        OFFICIAL,
        SEGMENTOR,
    ),
    Format("published pretraining checkpoint", (rf"^{PUBLISHED}", r"^decoder_embed\.weight$"), OFFICIAL),
    Format("published classifier", (rf"^{PUBLISHED}", r"^head\."), OFFICIAL),
    Format("published encoder", (rf"^{PUBLISHED}",), OFFICIAL),
    Format("detector of the first published code", (rf"^backbone\.bottom_up\.{PUBLISHED}",), OFFICIAL, FPN),
    Format("detector of the second published code", (rf"^backbone\.net\.{PUBLISHED}",), OFFICIAL, SFP),
    Format("pretraining checkpoint", (rf"^encoder\.{OWN}", r"^decoder\.embed\.weight$"), OURS, "encoder."),
    Format("classifier", (rf"^encoder\.{OWN}", r"^fc_norm\.weight$"), OURS, "encoder."),
    Format("encoder", (rf"^encoder\.{OWN}",), OURS, "encoder."),
    Format("encoder", (rf"^{OWN}",), OURS),
    Format("detector with FPN", (rf"^backbone\.bottom_up\.encoder\.{OWN}",), OURS, f"{FPN}encoder."),
    Format("detector with simple feature pyramid", (rf"^backbone\.net\.encoder\.{OWN}",), OURS, f"{SFP}encoder."),
    Format("UPerNet", (rf"^backbone\.encoder\.{OWN}", rf"^{re.escape(CLASSIFIER)}$"), OURS, f"{SEGMENTOR}encoder."),
    Format("detector without pyramid", (rf"^backbone\.encoder\.{OWN}", DETECTION), OURS, "backbone.encoder."),
)
OTHER_FORMATS = (
    build_other_format("Swin Transformer", r"(^|\.)layers\.0\.blocks\.0\."),
    build_other_format("plain ViT (MAE, DeiT, BEiT, ViTDet)", r"(^|\.)patch_embed\.proj\.weight$"),
    build_other_format("plain ViT (transformers)", r"embeddings\.patch_embeddings\."),
    build_other_format("ConvNeXt", r"(^|\.)(downsample_layers\.0\.0\.weight|stages\.0\.blocks\.0\.conv_dw\.weight)$"),
    build_other_format("ConvNeXt (torchvision)", r"(^|\.)features\.1\.0\.layer_scale$"),
    build_other_format("ResNet", r"(^|\.)(stem\.conv1|res2\.0\.conv1|layer1\.0\.conv1)\.weight$"),
)


def recognise_format(names: Collection[str], path: Any, prefix: str | None = None) -> Format:
    """Recognises the format of a file from the names of its tensors.

    What stands before the names of the format is ignored, such as "student." in "student.backbone.bottom_up.".

    Args:
        names: of the tensors
        path: of the file, for errors
        prefix: what stands before the names of its encoder; None: before those of the first one

    Raises:
        InputError: the file is not ConvMAE's; says what it is.
    """
    if prefix is None:
        prefix = next((before[1] for before in map(BEFORE_ENCODER.fullmatch, names) if before), None)
    starts = [] if prefix is None else ["", *(prefix[: dot.end()] for dot in re.finditer(r"\.", prefix))]
    known = [(start, format) for start in starts for format in FORMATS if start + format.prefix == prefix]
    for start, format in known or [("", format) for format in OTHER_FORMATS]:
        if format.matches(name.removeprefix(start) for name in names if name.startswith(start)):
            if format.layout is None:
                raise InputError(f"{path} holds the weights of another network, {format.name}; {format.advice}")
            return format
    few = ", ".join(sorted(names)[:3])
    raise InputError(
        f"{path} holds no ConvMAE encoder (its tensors: {few}, …); choose one that docs/checkpoints.md lists"
    )
