"""Decides for every parameter of a model where its value comes from, and for every weight of a file where it goes.

Nothing here changes a model: :func:`fit` gives the tensors to load, and raises before anything is loaded.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from ..errors import InputError
from ..modeling.position_embedding import resize
from ..modeling.relative_position import resize_table
from .encoder_shape import EncoderShape, encoder_shape
from .formats import Format
from .report import Report, collapse_blocks, part_of, size

LANDMARK = "stage1.patch_embed.proj.weight"

POSITION = r"position_embedding\.table$"
BIAS = r"(local|global)_bias\.table$"
DECOMPOSED = r"attn\.rel_pos_[hw]$"
RELATIVE = rf"{BIAS}|{DECOMPOSED}"

# Layers with an output for each class: another number of them is no mistake, but one's own classes.
CLASS_LAYERS = r"(box_predictor(\.\d+)?|^head)\.(cls_score|bbox_pred)\.|(mask_head|sem_seg_head)\.predictor\."

CONFIGURED = r"anchor_generator|^pixel_(mean|std)$"  # buffers that older Detectron2 saved
COUNTER = r"\.num_batches_tracked$"
NOT_IN_FILE, NOT_IN_MODEL = "not in the file", "not in the model"
NO_SUCH_LAYER = "the model has no such layer"
LEFT_OUT = (
    (r"^(decoder|fusion)\.", "only pretraining has a decoder"),
    (r"^head\.(\d\.)?(weight|bias|running_mean|running_var|num_batches_tracked)$|^fc_norm\.", "the classifier's head"),
    (CONFIGURED, "follows from the configuration"),
    (COUNTER, "only counts batches"),
    (RELATIVE, "MODEL.CONVMAE.RELATIVE_POSITION is another, or no block needs it"),
)


@dataclass
class Weights:
    """The content of a file in our layout."""

    path: str
    format: Format
    tensors: dict[str, torch.Tensor]
    prefix: str  # before stage1.… in the names of `tensors`
    entries: dict[str, Any] = field(default_factory=dict)  # what the file holds beside tensors: epoch, optimizer, …

    @property
    def shape(self) -> EncoderShape:
        return encoder_shape(self.tensors, self.prefix)

    def at(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors, with another prefix of the encoder's names."""
        return {
            prefix + name.removeprefix(self.prefix) if name.startswith(self.prefix) else name: tensor
            for name, tensor in self.tensors.items()
        }


def encoder_prefix(names: Collection[str]) -> str:
    """What stands before stage1.… in the names of a model. Raises InputError if it has no ConvMAE encoder."""
    found = [name.removesuffix(LANDMARK) for name in names if name == LANDMARK or name.endswith(f".{LANDMARK}")]
    if len(found) != 1:
        raise InputError(
            "the model has no ConvMAE encoder: set MODEL.BACKBONE.NAME to build_convmae_backbone, "
            "build_convmae_fpn_backbone or build_convmae_sfp_backbone"
        )
    return found[0]


def fit(
    weights: Weights, target: Mapping[str, torch.Tensor], fixed: Collection[str] = ()
) -> tuple[dict[str, torch.Tensor], Report]:
    """The tensors to load into a model whose state dict is `target`, which only needs shapes, and the report.

    `fixed` names the model's buffers: a position table there takes the file's grid, one that is a parameter is resized.
    Raises InputError, listing all, if a parameter of the encoder has no source or another shape, or a part of the model
    (decoder, FPN, a head) has a source for some of its parameters only.
    """
    prefix = encoder_prefix(target)
    source = weights.at(prefix)
    report = Report(weights.path, f"{weights.format.name}, {weights.shape}")
    alike = {part_of(name) for name in target if name in source}
    state, problems = {}, []
    for name, wanted in target.items():
        tensor = source.pop(name, None)
        if tensor is None:
            value, problem = _without_source(name, wanted, report, prefix, alike, name in fixed)
        elif tensor.shape == wanted.shape:
            value, problem = tensor, None
            report.matched.append(name)
        else:
            value, problem = _of_another_shape(name, tensor, wanted, report, name in fixed)
        if value is not None:
            state[name] = value
        if problem:
            problems.append((name, problem))
    problems += _leave_out(source, report, prefix, alike)
    if problems:
        raise InputError(_complaint(weights, encoder_shape(target, prefix), problems, prefix))
    report.left_out |= {key: "not a weight" for key in weights.entries}
    return state, report


def _without_source(name, wanted, report: Report, prefix: str, alike: set[str], fixed: bool):
    """(value, problem) for a parameter that the file doesn't have."""
    if re.search(RELATIVE, name):
        report.new[name] = f"{NOT_IN_FILE}: starts at zero"
        return torch.zeros(wanted.shape), None
    if fixed and re.search(POSITION, name):
        report.new[name] = f"{NOT_IN_FILE}: sin-cos"
        return None, None
    if re.search(COUNTER, name):
        report.new[name] = "only counts batches"
        return None, None
    # The final norm belongs to the fusion of the scales: where that and the decoder are new, it may be, too.
    norm = name.startswith(f"{prefix}norm.") and "decoder" not in alike
    if part_of(name) in alike and not norm or name.startswith(prefix) and not norm:
        return None, NOT_IN_FILE
    report.new[name] = NOT_IN_FILE
    return None, None


def _of_another_shape(name, tensor, wanted, report: Report, fixed: bool):
    """(value, problem) for a parameter that has another shape in the file."""
    shapes = tuple(tensor.shape), tuple(wanted.shape)
    if fixed and re.search(POSITION, name) and shapes[0][-1] == shapes[1][-1]:
        report.matched.append(name)  # the model takes the file's grid (modeling/position_embedding.py)
        return tensor, None
    resized = resized_table(name, tensor, wanted.shape)
    if resized is not None:
        report.resized[name] = shapes
        return resized, None
    if re.search(CLASS_LAYERS, name) and shapes[0][1:] == shapes[1][1:]:
        report.left_out[name] = f"another number of classes: {shapes[0][0]} outputs, {shapes[1][0]} in the model"
        report.new[name] = "for another number of classes"
        return None, None
    return None, f"{size(shapes[0])} in the file, {size(shapes[1])} in the model"


def resized_table(name: str, table: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """A position table resized to `shape`; None if `name` is none, or if more than its grid differs."""
    if re.search(POSITION, name) and table.ndim == len(shape) and table.shape[-1] == shape[-1]:
        return resize(table.float(), tuple(shape[1:3])).to(table.dtype)
    if re.search(BIAS, name) and table.ndim == len(shape) and table.shape[0] == shape[0]:
        grid = tuple((length + 1) // 2 for length in shape[1:])
        return resize_table(table.float(), grid).to(table.dtype).contiguous()
    if re.search(DECOMPOSED, name) and table.ndim == len(shape) and table.shape[1] == shape[1]:
        return F.interpolate(table.float().T[None], size=shape[0], mode="linear")[0].T.to(table.dtype).contiguous()
    return None


def _leave_out(rest: Mapping[str, torch.Tensor], report: Report, prefix: str, alike: set[str]) -> list[tuple[str, str]]:
    """Gives the weights that the model doesn't have their reason; those that no reason excuses are problems."""
    problems = []
    filled = {name.rpartition(".")[0] for name in report.matched}
    for name in rest:
        reason = next((reason for pattern, reason in LEFT_OUT if re.search(pattern, name)), NO_SUCH_LAYER)
        if name.startswith(f"{prefix}norm."):
            reason = "the detector has no final norm"
        known = name.startswith(prefix) or name.rpartition(".")[0] in filled
        if known and reason == NO_SUCH_LAYER or part_of(name) == "decoder" and "decoder" in alike:
            problems.append((name, NOT_IN_MODEL))
        elif name.startswith("fusion.") and "decoder" in alike:
            report.left_out[name] = "MODEL.MAE.MULTI_SCALE_DECODER is False"
        else:
            report.left_out[name] = reason
    return problems


def _complaint(weights: Weights, model: EncoderShape, problems: list[tuple[str, str]], prefix: str) -> str:
    lines = "\n".join(f"  {line}" for line in collapse_blocks(problems))
    alone = "take the file's encoder alone: tools/convert_weights.py --to encoder"
    if any(name.startswith(prefix) for name, _ in problems):
        advice = "; ".join(_advice(weights.shape, model)) or "name a file that is complete"
        advice = f"the file's encoder is {weights.shape}, the model's is {model}: {advice}"
    elif any(name.endswith(".running_mean") and problem == NOT_IN_MODEL for name, problem in problems):
        keys = "MODEL.FPN.NORM, MODEL.ROI_BOX_HEAD.NORM and MODEL.ROI_MASK_HEAD.NORM"
        advice = f"the file has batch norm where the model has none: set {keys} to SyncBN, or {alone}"
    else:
        advice = f"the encoder fits, other parts don't: set their keys as the file was trained, or {alone}"
    return (
        f"{weights.path}, {weights.format.name}, doesn't fit the model; {advice}. "
        f"Nothing was loaded, because of {len(problems)} parameters:\n{lines}"
    )


def _advice(file: EncoderShape, model: EncoderShape) -> list[str]:
    """What to change in the configuration where the two encoders differ."""
    others = model.settings()
    keys = [key for key, value in file.settings().items() if value and value != others.get(key)]
    advice = [f"set {', '.join(f'MODEL.CONVMAE.{key} to {file.settings()[key]}' for key in keys)}"] if keys else []
    if file.in_channels != model.in_channels:
        channels = f"the file's encoder takes {file.in_channels} channels, the model's {model.in_channels}"
        advice.append(f"{channels}: give MODEL.PIXEL_MEAN and MODEL.PIXEL_STD {file.in_channels} entries")
    return advice
