"""Measures what a network costs: parameters and operations by part, time and memory by image size.

Images are square and random, and so are the weights. An operation is a multiplication or an addition of a matrix
product, a convolution or attention, counted in a forward pass for one image; a multiply-add is two. Time is the median
of some passes or, in training, optimizer steps. Memory is the peak with weights (in training also gradients and
optimizer): on a GPU what torch allocates, on the CPU what a new process uses beyond the imported libraries.
"""

import itertools
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import nn
from tqdm import tqdm

from ..config.architectures import has_backbone
from ..config.building import list_sides
from ..data.configuration import read_tool_config
from ..data.random_input import make_random_input
from ..engine.start import build_model_to_train
from ..engine.step import TrainingStep
from ..errors import InputError
from ..inference.model import build_model
from ..precision import Precision, autocast, choose_evaluation_precision, choose_training_precision, log_precision
from ..solver.optimizer import build_optimizer
from .measuring import describe_machine, measure_cuda_peak, measure_process_peak, measure_seconds
from .operations import REST, OperationCounter

# parts of a network, in this order: a pattern for the names of their parameters, and the part's name
PARTS = (
    (r"(.+\.)?encoder\.stage(\d)\.", r"stage \2"),
    (r"(.+\.)?encoder\.", "encoder's norm"),
    (r"backbone\.", "feature pyramid"),
    (r"proposal_generator\.", "region proposals"),
    (r"roi_heads\.box_", "box head"),
    (r"roi_heads\.mask_", "mask head"),
    (r"sem_seg_head\.", "semantic head"),
    (r"head\.", "dense head"),
    (r"fusion\.", "fusion"),
    (r"decoder\.", "decoder"),
)
OBJECTS = 8  # in an image to train on
MOST_OBJECTS = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0")  # the most that the mask head can cost


@dataclass
class Workload:
    """What is measured: the network of a configuration, in inference or in training.

    Attributes:
        config_file: as for `data.configuration.read_tool_config`
        pairs: as for `data.configuration.read_tool_config`
        device: as for `data.configuration.read_tool_config`
        batch_size: images in a pass
        train: optimizer steps instead of forward passes
        cfg: the configuration; detectors find as many objects as they may, unless `pairs` set a score threshold
    """

    config_file: str
    pairs: Sequence[str] = ()
    device: str = ""
    batch_size: int = 1
    train: bool = False
    cfg: CfgNode = field(init=False)

    def __post_init__(self) -> None:
        """Reads the configuration.

        Raises:
            InputError: a configuration, device or batch size that can't be used.
        """
        if self.batch_size < 1:
            raise InputError(f"--batch-size is {self.batch_size}; it must be at least 1")
        self.cfg = read_tool_config(self.config_file, [*MOST_OBJECTS, *self.pairs], self.device)

    def make_pass(self, size: int) -> "Pass":
        return Pass(self.cfg, size, self.batch_size, self.train)

    def run_for_memory(self, size: int) -> None:
        """Runs what needs the most memory of all passes."""
        run = self.make_pass(size)
        run()
        if self.train:  # the first step allocates the optimizer's state
            run()


class Pass:
    """A forward pass over a batch of random images, or an optimizer step."""

    def __init__(self, cfg: CfgNode, size: int, batch_size: int, train: bool):
        torch.manual_seed(0)
        self.model = (build_model_to_train if train else build_model)(cfg).train(train)
        self.inputs = [make_random_input(cfg, size, OBJECTS * train) for _ in range(batch_size)]
        self.device, self.dtype, self.step = cfg.MODEL.DEVICE, choose_precision_of_pass(cfg, train).dtype, None
        if train:
            self.step = TrainingStep(
                self.model,
                itertools.repeat(self.inputs),
                build_optimizer(cfg, self.model),
                autocast_dtype=self.dtype,
            )

    def __call__(self) -> None:
        if self.step:
            with EventStorage() as self.step.storage:
                self.step.iter = 0
                self.step.run_step()
        else:
            with torch.no_grad(), autocast(self.device, self.dtype):
                self.model(self.inputs)

    def count_operations(self) -> Counter:
        """Counts the operations of each part in a forward pass for one image."""
        self.model.eval()
        parts = ((find_part(f"{name}."), module) for name, module in self.model.named_modules())
        with torch.no_grad(), OperationCounter(parts) as counter:
            self.model(self.inputs[:1])
        return counter.operations


def choose_precision_of_pass(cfg: CfgNode, train: bool) -> Precision:
    """Chooses the precision of training or of evaluation."""
    return choose_training_precision(cfg) if train else choose_evaluation_precision(cfg)


def find_part(name: str) -> str:
    """Finds the part of the network that a parameter belongs to, or a module, whose name then ends in a dot."""
    for pattern, part in PARTS:
        if match := re.match(pattern, name):
            return match.expand(part)
    return REST


def count_parameters(model: nn.Module) -> Counter:
    """Counts the parameters in each part."""
    parts = Counter()
    for name, parameter in model.named_parameters():
        parts[find_part(name)] += parameter.numel()
    return parts


def choose_default_sizes(cfg: CfgNode) -> list[int]:
    """Returns half, three quarters and all of the configuration's image size, the longer side, in multiples of 32."""
    node = cfg.MODEL.CONVMAE
    full = node.IMAGE_SIZE if has_backbone(cfg) else max(list_sides(node.PRETRAIN_IMAGE_SIZE))
    return sorted({max(32, round(full * share / 32) * 32) for share in (0.5, 0.75, 1)})


def analyze(workload: Workload, sizes: Iterable[int] = (), repeats: int = 3) -> dict:
    """Measures a network at several image sizes.

    Args:
        workload: the network and what it does
        sizes: sides of images in pixels; empty: :func:`choose_default_sizes`
        repeats: passes that are timed, after one that isn't

    Returns:
        What was measured where; "parameters" by part, in the order of PARTS; and "sizes": for each "size" "seconds" a
        pass, "operations" by part, and "memory" in bytes.

    Raises:
        InputError: a size, or a number of repeats, that can't be used; images of a size that can't be run.
    """
    sizes = sorted(set(sizes or choose_default_sizes(workload.cfg)))
    check_sizes(workload.cfg, sizes)
    if repeats < 1:
        raise InputError(f"--repeats is {repeats}; it must be at least 1")
    precision = choose_precision_of_pass(workload.cfg, workload.train)
    log_precision(precision)
    with tqdm(total=len(sizes) * (repeats + 3), desc="passes", disable=None) as progress:
        measured, (counts, *_) = zip(*(_measure(workload, size, repeats, progress) for size in sizes), strict=True)
    parts = _sort_parts({*counts, *(part for row in measured for part in row["operations"])})
    for row in measured:
        row["operations"] = {part: row["operations"][part] for part in parts}
    return {
        "config_file": workload.config_file,
        **describe_machine(_find_device_kind(workload.cfg)),
        "precision": str(precision),
        "train": workload.train,
        "batch_size": workload.batch_size,
        "parameters": {part: counts[part] for part in parts},
        "sizes": list(measured),
    }


def check_sizes(cfg: CfgNode, sizes: Sequence[int]) -> None:
    """Checks the sides of images, which rise.

    Raises:
        InputError: one can't be used.
    """
    padded = cfg.MODEL.CONVMAE.SQUARE_PAD
    if sizes[0] < 32:
        raise InputError(f"--sizes holds {sizes[0]}; images of 32 pixels are the smallest")
    if 0 < padded < sizes[-1]:
        raise InputError(
            f"--sizes holds {sizes[-1]}, but MODEL.CONVMAE.SQUARE_PAD is {padded}: it must be as large, or 0"
        )


def _measure(workload: Workload, size: int, repeats: int, progress: tqdm) -> tuple[dict, Counter]:
    """Measures one size. Returns its figures, "operations" among them as a counter, and the parameters of each part."""
    progress.set_postfix_str(f"{size}×{size} pixels")
    memory = measure_peak_memory(workload, size)
    progress.update()
    run, times = workload.make_pass(size), []
    for _ in range(repeats + 1):
        times.append(measure_seconds(run, _find_device_kind(workload.cfg)))
        progress.update()
    operations = run.count_operations()
    progress.update()
    row = {"size": size, "seconds": statistics.median(times[1:]), "operations": operations, "memory": memory}
    return row, count_parameters(run.model)


def _find_device_kind(cfg: CfgNode) -> str:
    return cfg.MODEL.DEVICE.split(":")[0]


def _sort_parts(parts: Iterable[str]) -> list[str]:
    """Sorts parts in the order of PARTS, stages by number."""
    names = [name for _, name in PARTS]
    return sorted(parts, key=lambda part: (names.index(part) if part in names else len(names) * (part == REST), part))


def measure_peak_memory(workload: Workload, size: int) -> int:
    """Measures the peak memory in bytes, as the module's docstring says."""
    if workload.cfg.MODEL.DEVICE.startswith("cuda"):
        return measure_cuda_peak(lambda: workload.run_for_memory(size))
    words = ["--config-file", workload.config_file, "--device", "cpu", *workload.pairs]
    words += ["--batch-size", str(workload.batch_size), "--memory-at", str(size)]
    words += ["--train"] if workload.train else []
    try:
        return measure_process_peak("-m", "convmae_det", "analyze", *words)
    except InputError as error:
        raise InputError(f"images of {size} pixels can't be run: {error}") from error
