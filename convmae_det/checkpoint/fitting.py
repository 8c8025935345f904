"""Decides for every parameter of a model where its value comes from, and for every weight of a file where it goes.

Nothing here changes a model: :func:`fit_weights` returns the tensors to load, and raises before anything is loaded. The
same rules apply to weights that begin a run, resume it, average it or are evaluated; how much must fit is its
`strictness`.
"""

import enum
import re
from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F

from ..errors import InputError
from ..modeling.attention import resize_bias_table
from ..modeling.embeddings import resize_embedding
from .adapters import DOWN, UP
from .channels import adapt_channels
from .encoder_shape import EncoderShape, infer_encoder_shape
from .report import Report, collapse_blocks, find_part, format_shape
from .weights import Weights, find_encoder_prefixes, strip_encoder_prefix

POSITION = r"position_embedding\.table$"
BIAS = r"((local|global)_bias|block_biases\.\d+)\.table$"
DECOMPOSED = r"attn\.rel_pos_[hw]$"
RELATIVE = rf"{BIAS}|{DECOMPOSED}"

# Layers with an output for each class: another number of outputs is no error, since the user has other classes.
CLASS_LAYERS = (
    r"(box_predictor(\.\d+)?|^head)\.(cls_score|bbox_pred)\.|(mask_head|sem_seg_head)\.predictor\.|(^|\.)conv_seg\."
)
CLASS_LAYERS += r"|^head\.(1\.)?(weight|bias)$"

MAX_LISTED = 6  # problems named in one sentence

CONFIGURED = r"anchor_generator|^pixel_(mean|std)$"  # buffers that older Detectron2 saved
COUNTER = r"\.num_batches_tracked$"
HEADS = {"head.weight": False, "head.1.weight": True}  # by the last layer of classifiers: whether they are probes
NOT_IN_FILE, NOT_IN_MODEL = "not in the file", "not in the model"
BESIDE = "beside the weights"
NO_SUCH_LAYER = "the model has no such layer"
LEFT_OUT = (
    (r"^(decoder|fusion)\.", "only pretraining has a decoder"),
    (r"^head\.(\d\.)?(weight|bias|running_mean|running_var|num_batches_tracked)$|^fc_norm\.", "the classifier's head"),
    (r"^backbone\.e4\.|^sem_seg_head\.", "the segmentor's, which the model doesn't have"),
    (CONFIGURED, "follows from the configuration"),
    (COUNTER, "only counts batches"),
    (r"(^|\.)n_averaged$", "only counts updates of the average"),
    (RELATIVE, "MODEL.CONVMAE.RELATIVE_POSITION is another, or no block needs it"),
)


class Strictness(enum.IntEnum):
    """What a file must contain of a model; each level refuses what the one before does, and more."""

    ENCODER = 0  # all of the encoder, all or nothing of each other part: to begin a run
    WHOLE = 1  # every parameter, tables of positions of any size: to evaluate
    EXACT = 2  # every parameter in its size: to resume a run, and its average


def fit_weights(
    weights: Weights,
    target: Mapping[str, torch.Tensor],
    fixed: Collection[str] = (),
    strictness: Strictness = Strictness.ENCODER,
    *,
    other_channels: bool = False,
) -> tuple[dict[str, torch.Tensor], Report]:
    """Chooses the tensors to load into a model, and reports what becomes of each.

    Counters of batches may be missing.

    Args:
        weights: the content of a file
        target: the state dict of the model, of which only shapes and types matter
        fixed: names of the model's buffers: a position table there takes the file's grid, a parameter is resized
        strictness: what must be in the file
        other_channels: whether weights for images of other channels are adapted to the model's, see `channels`

    Returns:
        The tensors by the model's names, and the report.

    Raises:
        InputError: a parameter of the encoder is missing or has another shape, one is stored as integers, or a part of
            the model (decoder, FPN, a head) is incomplete in the file; or `strictness` requires more.
    """
    prefixes = find_encoder_prefixes(target)
    source = weights.rename_tensors(prefixes)
    report = Report(weights.path, weights.kind)
    alike = {find_part(name) for name in target if name in source}
    state, problems = {}, []
    for name, wanted in target.items():
        tensor = source.pop(name, None)
        if tensor is None:
            value, problem = _handle_missing(
                name, wanted, report, strip_encoder_prefix(name, prefixes), alike, name in fixed
            )
        elif tensor.is_floating_point() != wanted.is_floating_point():
            value, problem = None, describe_difference(str(tensor.dtype), str(wanted.dtype))
        elif tensor.shape == wanted.shape:
            value, problem = tensor, None
            report.matched.append(name)
        elif other_channels and (value := adapt_channels(name, tensor, wanted.shape)) is not None:
            problem = None
            report.adapted[name] = f"{format_shape(tuple(tensor.shape))} → {format_shape(tuple(wanted.shape))}"
        else:
            value, problem = _handle_other_shape(name, tensor, wanted, report, name in fixed)
        if value is not None:
            state[name] = value
        if problem:
            problems.append((name, problem))
    problems += _leave_out(source, report, prefixes, alike)
    if strictness >= Strictness.WHOLE:  # without the biases of its training, the encoder computes something else
        problems += [(name, NOT_IN_MODEL) for name in report.left_out if re.search(RELATIVE, name)]
    if complaint := _describe_misfit(weights, target, problems, report, strictness):
        raise InputError(complaint)
    report.left_out |= {key: BESIDE for key in weights.entries if key not in target}
    return state, report


def describe_difference(found: str, wanted: str) -> str:
    """Describes a difference between the file and the model."""
    return f"{found} in the file, {wanted} in the model"


def _handle_missing(
    name: str, wanted: torch.Tensor, report: Report, inner: str, alike: set[str], fixed: bool
) -> tuple[torch.Tensor | None, str | None]:
    """Returns (value, problem) for a parameter that the file doesn't have. `inner` is its name in the encoder."""
    if re.search(RELATIVE, name):
        report.new[name] = f"{NOT_IN_FILE}: starts at zero"
        return torch.zeros(wanted.shape), None
    if name.endswith((DOWN, UP)):
        report.new[name] = f"{NOT_IN_FILE}: an adapter, which changes nothing yet"
        return None, None
    if fixed and re.search(POSITION, name):
        report.new[name] = f"{NOT_IN_FILE}: sin-cos"
        return None, None
    if re.search(COUNTER, name):
        report.new[name] = "only counts batches"
        return None, None
    # The final norm belongs to the fusion of the scales: it may be new if that and the decoder are new.
    norm = inner.startswith("norm.") and "decoder" not in alike
    if (find_part(name) in alike or inner) and not norm:
        return None, NOT_IN_FILE
    report.new[name] = NOT_IN_FILE
    return None, None


def _handle_other_shape(
    name: str, tensor: torch.Tensor, wanted: torch.Tensor, report: Report, fixed: bool
) -> tuple[torch.Tensor | None, str | None]:
    """Returns (value, problem) for a parameter that has another shape in the file."""
    shapes = tuple(tensor.shape), tuple(wanted.shape)
    resized = resize_position_table(name, tensor, wanted.shape)
    if resized is not None and fixed:  # a position table
        report.matched.append(name)  # the model takes the file's grid (modeling/embeddings.py)
        return tensor, None
    if resized is not None:
        report.resized[name] = shapes
        return resized, None
    if re.search(CLASS_LAYERS, name) and tensor.ndim and shapes[0][1:] == shapes[1][1:]:
        report.left_out[name] = f"another number of classes: {shapes[0][0]} outputs, {shapes[1][0]} in the model"
        report.new[name] = "for another number of classes"
        return None, None
    return None, describe_difference(format_shape(shapes[0]), format_shape(shapes[1]))


def resize_position_table(name: str, table: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Resizes a position table to `shape`; None if `name` is no position table, or if more than its grid differs."""
    if table.ndim != len(shape) or not table.numel():
        return None
    if re.search(POSITION, name) and (table.shape[0], table.shape[-1]) == (shape[0], shape[-1]):
        return resize_embedding(table.float(), (shape[1], shape[2])).to(table.dtype)
    if re.search(BIAS, name) and table.shape[0] == shape[0]:
        grid = (shape[1] + 1) // 2, (shape[2] + 1) // 2
        return resize_bias_table(table.float(), grid).to(table.dtype).contiguous()
    if re.search(DECOMPOSED, name) and table.shape[1] == shape[1]:
        return F.interpolate(table.float().T[None], size=shape[0], mode="linear")[0].T.to(table.dtype).contiguous()
    return None


def _leave_out(
    rest: Mapping[str, torch.Tensor], report: Report, prefixes: Sequence[str], alike: set[str]
) -> list[tuple[str, str]]:
    """Records why weights that the model doesn't have are left out; returns those without a good reason."""
    problems = []
    filled = {name.rpartition(".")[0] for name in report.matched} - {""}
    for name in rest:
        reason = next((reason for pattern, reason in LEFT_OUT if re.search(pattern, name)), NO_SUCH_LAYER)
        inner = strip_encoder_prefix(name, prefixes)
        if inner.startswith("norm."):
            reason = "only pretraining has a final norm"
        known = inner or name.rpartition(".")[0] in filled
        if (known and reason == NO_SUCH_LAYER) or (find_part(name) == "decoder" and "decoder" in alike):
            problems.append((name, NOT_IN_MODEL))
        elif name.startswith("fusion.") and "decoder" in alike:
            report.left_out[name] = "MODEL.MAE.MULTI_SCALE_DECODER is False"
        else:
            report.left_out[name] = reason
    return problems


def _describe_misfit(
    weights: Weights,
    target: Mapping[str, torch.Tensor],
    problems: list[tuple[str, str]],
    report: Report,
    strictness: Strictness,
) -> str | None:
    """Describes what is wrong, and what to do; None: nothing."""
    new = [(name, reason) for name, reason in report.new.items() if not re.search(COUNTER, name)]
    resized = [(name, describe_difference(*map(format_shape, shapes))) for name, shapes in report.resized.items()]
    if strictness == Strictness.EXACT and (problems or new or resized):
        lines = collapse_blocks([*problems, *new, *resized])
        more = [f"and {len(lines) - MAX_LISTED} more"] * (len(lines) > MAX_LISTED)
        kind = "detector" if "detector" in weights.format.name else "model"
        return (
            f"{weights.path} is of another {kind} than its configuration: {'; '.join(lines[:MAX_LISTED] + more)}; "
            "take the config.yaml of the run that wrote it"
        )
    if problems:
        return _describe_problems(problems, weights, target)
    if strictness == Strictness.WHOLE and new:
        others = [f"{name} is for {report.left_out[name]}" for name, _ in new if name in report.left_out]
        lacking = [name for name, _ in new if name not in report.left_out]
        lacks = [f"it lacks {len(lacking)} weights, such as {lacking[0]}"] if lacking else []
        probes = [is_probe for name, is_probe in HEADS.items() if name in report.left_out]
        advice = "take a checkpoint of train_net.py and the config.yaml beside it"
        if lacking and probes and all(name.startswith("head.") for name in lacking):
            advice = f"its head is that of MODEL.CLASSIFIER.PROBE {probes[0]}: set this"
        return (
            f"{weights.path} is not of the model that the configuration describes: {'; '.join(lacks + others[:1])}; "
            f"{advice}"
        )
    return None


def _describe_problems(problems: list[tuple[str, str]], weights: Weights, target: Mapping[str, torch.Tensor]) -> str:
    lines = "\n".join(f"  {line}" for line in collapse_blocks(problems))
    prefixes = find_encoder_prefixes(target)
    alone = "take the file's encoder alone: convmae-det convert --to encoder"
    if any(strip_encoder_prefix(name, prefixes) for name, _ in problems):
        model = infer_encoder_shape(target, prefixes[0])
        advice = (
            "; ".join(_advise(weights.shape, model)) or "take the config.yaml that it was trained with, or another file"
        )
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


def _advise(file: EncoderShape, model: EncoderShape) -> list[str]:
    """Lists what to change in the configuration where the two encoders differ."""
    others = model.list_settings()
    keys = [key for key, value in file.list_settings().items() if value and value != others.get(key)]
    advice = [f"set {', '.join(f'MODEL.CONVMAE.{key} to {file.list_settings()[key]}' for key in keys)}"] if keys else []
    if file.in_channels != model.in_channels:
        channels = f"the file's encoder takes {file.in_channels} channels, the model's {model.in_channels}"
        advice.append(
            f"{channels}: give MODEL.PIXEL_MEAN and MODEL.PIXEL_STD {file.in_channels} entries, or set "
            "MODEL.CONVMAE.ADAPT_CHANNELS True to begin from weights adapted to the model's"
        )
    return advice
