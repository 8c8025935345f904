"""Detectors as files that run without this project and Detectron2: TorchScript and ONNX.

Both take one image and give what the network finds in it, before anything is scaled or drawn:

========  ===============  ==============================================================================
image     (C, H, W) uint8  the channels of INPUT.FORMAT, 0–255, resized as for evaluation; H and W are free
boxes     (n, 4) float32   x0, y0, x1, y1 in pixels of that image
classes   (n,) int64       counted from 0
scores    (n,) float32     falling
masks     (n, M, M)        float32 probabilities over the box, M = 28 by default; without MODEL.MASK_ON left out
========  ===============  ==============================================================================

Normalisation, padding, the score threshold and the suppression of duplicates are inside. Beside the network a file
contains the result of :func:`describe_detector`. Detectron2 patches its own part for tracing; `modeling` says where
ours needs care.
"""

import contextlib
import importlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import GeneralizedRCNN
from torch import nn

from ..errors import InputError

OUTPUTS = ("boxes", "classes", "scores", "masks")
DESCRIPTION = "convmae_det.json"  # the name of TorchScript's extra file, and of ONNX's metadata
OPSET = 17
MAX_ONNX_BYTES = 2**31 - 2**24  # of parameters: a protobuf file ends at 2 GiB

Runner = Callable[[torch.Tensor], Sequence[torch.Tensor]]  # image → outputs, on the CPU


class ExportableDetector(nn.Module):
    """A GeneralizedRCNN on tensors: image → boxes, classes, scores and, if it has them, masks (see above)."""

    def __init__(self, model: nn.Module):
        """Takes a detector, in evaluation mode from now on.

        Raises:
            InputError: another architecture, or keypoints.
        """
        super().__init__()
        if not isinstance(model, GeneralizedRCNN) or getattr(model.roi_heads, "keypoint_on", False):
            raise InputError(
                "only detectors with boxes and masks are exported: set MODEL.META_ARCHITECTURE GeneralizedRCNN and "
                "MODEL.KEYPOINT_ON False"
            )
        self.model = model
        self.eval()

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with patch_builtin_len():  # so that the number of detections is traced, not fixed
            (found,) = self.model.inference([{"image": image}], do_postprocess=False)
        masks = (found.pred_masks[:, 0],) if found.has("pred_masks") else ()
        return found.pred_boxes.tensor, found.pred_classes, found.scores, *masks


def describe_detector(cfg: CfgNode) -> str:
    """Describes the detector as JSON: input channels, sizes for resizing, names of classes."""
    return json.dumps(
        {
            "channels": cfg.INPUT.FORMAT,
            "min_size": cfg.INPUT.MIN_SIZE_TEST,  # pixels: resize the shorter side to this ...
            "max_size": cfg.INPUT.MAX_SIZE_TEST,  # ... unless the longer one would exceed this
            "classes": [name for _, name in cfg.DATASETS.CATEGORIES],
        }
    )


def to_torchscript(detector: ExportableDetector, image: torch.Tensor, text: str) -> bytes:
    """Traces the network on `image` (C, H, W) uint8, for its device. Returns the file's content, with `text` in it."""
    file = io.BytesIO()
    with suppress_tracing_warnings():
        traced = torch.jit.trace(detector, (image,), check_trace=False)
        torch.jit.save(traced, file, _extra_files={DESCRIPTION: text})
    return file.getvalue()


def to_onnx(detector: ExportableDetector, image: torch.Tensor, text: str) -> bytes:
    """Traces the network on `image` (C, H, W) uint8, both on the CPU, as standard operators.

    Returns:
        The file's content, with `text` in it.

    Raises:
        InputError: ONNX isn't installed, or the network is too large for one file.
    """
    onnx = import_onnx("onnx")
    size = sum(tensor.nbytes for tensor in detector.state_dict().values())
    if size > MAX_ONNX_BYTES:
        raise InputError(
            f"the detector has {size / 2**30:.1f} GiB of weights, more than ONNX can hold in a file: "
            "export it as TorchScript"
        )
    with torch.no_grad():
        names = OUTPUTS[: len(detector(image))]
    axes = {"image": {1: "height", 2: "width"}, **{name: {0: "detections"} for name in names}}
    with tempfile.TemporaryDirectory() as folder, suppress_tracing_warnings():
        path = str(Path(folder, "detector.onnx"))
        torch.onnx.export(
            detector, (image,), path, input_names=["image"], output_names=list(names), dynamic_axes=axes,
            opset_version=OPSET, dynamo=False,  # the newer exporter refuses counts that depend on the data
        )  # fmt: skip
        model = onnx.load(path)
    onnx.helper.set_model_props(model, {DESCRIPTION: text})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def build_torchscript_runner(content: bytes, device: str) -> Runner:
    """Builds a function that runs an exported file."""
    with suppress_tracing_warnings():
        network = torch.jit.load(io.BytesIO(content), map_location=device)

    @torch.no_grad()
    def run(image: torch.Tensor) -> list[torch.Tensor]:
        return [output.cpu() for output in network(image.to(device))]

    return run


def build_onnx_runner(content: bytes) -> Runner:
    """Builds a function that runs an exported file on the CPU.

    Raises:
        InputError: onnxruntime isn't installed.
    """
    onnxruntime = import_onnx("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only: it warns about every constant that it folds
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: [torch.from_numpy(output) for output in session.run(None, {"image": image.cpu().numpy()})]


def import_onnx(name: str) -> ModuleType:
    """Imports the package onnx or onnxruntime.

    Raises:
        InputError: it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"--format onnx needs the package {name}, which can't be imported ({error}): pip install onnx onnxruntime"
        ) from error


class Comparison(NamedTuple):
    """Detections of two runs of one network, in pairs, and the largest differences within the pairs."""

    expected: int  # number of detections
    found: int
    paired: int
    boxes: float  # pixels
    scores: float
    masks: float | None  # probability; None without masks

    # Rounding sometimes changes what duplicate suppression removes: one detection in fifty may be unpaired.
    UNPAIRED = 0.02
    BOXES, SCORES, MASKS = 0.1, 1e-3, 1e-2

    @property
    def agrees(self) -> bool:
        unpaired = max(self.expected, self.found) - self.paired
        return (
            unpaired <= self.UNPAIRED * max(self.expected, self.found)
            and self.boxes <= self.BOXES
            and self.scores <= self.SCORES
            and (self.masks or 0) <= self.MASKS
        )

    def __str__(self) -> str:
        masks = "" if self.masks is None else f", masks {self.masks:.1e}"
        return (
            f"{self.expected} detections in eager mode, {self.found} in the file, {self.paired} of the same class at "
            f"the same place; largest difference: boxes {self.boxes:.1e} pixels, scores {self.scores:.1e}{masks}"
        )


def compare_detections(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> Comparison:
    """Pairs the detections of two runs, each as :class:`ExportableDetector` returns them, in any order.

    The two of a pair have the same class, their boxes differ by less than a pixel, and each is the other's nearest.
    """
    (boxes, classes, scores, *masks), (other_boxes, other_classes, other_scores, *other_masks) = expected, found
    distance = (boxes[:, None] - other_boxes).abs().amax(2)
    distance = distance.masked_fill(classes[:, None] != other_classes, torch.inf)
    counts = len(boxes), len(other_boxes)
    if not min(counts):
        return Comparison(*counts, 0, 0.0, 0.0, 0.0 if masks else None)
    nearest, back = distance.argmin(1), distance.argmin(0)
    rows = torch.arange(len(boxes))
    rows = rows[(back[nearest] == rows) & (distance[rows, nearest] < 1)]
    columns = nearest[rows]

    def largest(a: torch.Tensor, b: torch.Tensor) -> float:
        return (a[rows] - b[columns]).abs().max().item() if len(rows) else 0.0

    return Comparison(
        *counts,
        len(rows),
        largest(boxes, other_boxes),
        largest(scores, other_scores),
        largest(masks[0], other_masks[0]) if masks else None,
    )


@contextlib.contextmanager
def suppress_tracing_warnings() -> Iterator[None]:
    """Suppresses warnings of tracing: branches that are the same for every image, and its own deprecation."""
    loggers = [logging.getLogger(name) for name in ("torch.fx._symbolic_trace", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
