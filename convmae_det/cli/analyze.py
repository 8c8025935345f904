#!/usr/bin/env python3
"""Says what a network costs: parameters and operations by part, time and memory by image size.

    analyze.py --config-file configs/mask_rcnn_convmae_b.yaml --output costs.png
    analyze.py --config-file ... --sizes 512 1024 --batch-size 2 --train --json costs.json MODEL.CONVMAE.WINDOW_SIZE 14

Images are square, random, and so are the weights. An operation is a multiplication or an addition of a matrix product,
a convolution or attention, counted in a forward pass for one image; a multiply-add is two.
Detectors run with a score threshold of 0 unless you set it, so that they find as many objects as they may, which is the
most that the mask head can cost. Time is the median of --repeats passes, with --train of optimizer steps. Memory is the
peak with weights (with --train gradients and optimizer, too): on a GPU of what torch holds, on the CPU of what a
process of its own holds beyond the imported libraries.
"""

import argparse
import itertools
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Sequence

import convmae_det  # noqa: F401  (first, for it silences what PyTorch says of Detectron2)

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from ..config.architectures import is_detector
from ..costs.measuring import cuda_peak, machine, print_peak, process_peak, seconds
from ..costs.operations import REST, OperationCount
from ..data.configuration import read_tool_config
from ..engine.step import TrainingStep
from ..errors import InputError
from ..files import atomic_write
from ..inference.export import quiet
from ..precision import Precision, announce, autocast, evaluation_precision, training_precision
from ..solver.optimizer import build_optimizer

# parts of a network, in this order: how the names of their parameters begin, and what they are called
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


class Pass:
    """What is measured: a forward pass over a batch of random images, or an optimizer step."""

    def __init__(self, cfg: CfgNode, size: int, batch_size: int, train: bool):
        torch.manual_seed(0)
        self.model = build_model(cfg).train(train)
        self.inputs = [random_input(cfg, size, objects=train) for _ in range(batch_size)]
        self.device, self.dtype, self.step = cfg.MODEL.DEVICE, precision_of(cfg, train).dtype, None
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

    def operations(self) -> Counter:
        """Operations of each part in a forward pass for one image."""
        self.model.eval()
        parts = ((part_of(f"{name}."), module) for name, module in self.model.named_modules())
        with torch.no_grad(), OperationCount(parts) as counter:
            self.model(self.inputs[:1])
        return counter.operations


def precision_of(cfg: CfgNode, train: bool) -> Precision:
    return training_precision(cfg) if train else evaluation_precision(cfg)


def random_input(cfg: CfgNode, size: int, objects: bool) -> dict:
    """A square image as the mapper gives it, with objects if it is to be trained on."""
    entry = {"image": torch.randint(0, 256, (len(cfg.MODEL.PIXEL_MEAN), size, size), dtype=torch.uint8)}
    if objects and is_detector(cfg):
        corners = torch.rand(OBJECTS, 2, 2).sort(dim=1).values * (size - 8) + torch.tensor([[[0], [8]]])
        instances = Instances((size, size), gt_boxes=Boxes(corners.flatten(1)))
        instances.gt_classes = torch.zeros(OBJECTS, dtype=torch.int64)
        instances.gt_masks = BitMasks(torch.ones(OBJECTS, size, size, dtype=torch.bool))
        entry["instances"] = instances
    return entry


def part_of(name: str) -> str:
    """The part of the network that a parameter belongs to, or a module, whose name then ends in a dot."""
    for pattern, part in PARTS:
        if match := re.match(pattern, name):
            return match.expand(part)
    return REST


def parameters(model: nn.Module) -> Counter:
    """The number of parameters in each part."""
    parts = Counter()
    for name, parameter in model.named_parameters():
        parts[part_of(name)] += parameter.numel()
    return parts


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    cfg = read_tool_config(args.config_file, ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", *args.pairs], args.device)
    if args.memory_at:
        print_peak(lambda: run_for_memory(cfg, args, args.memory_at))  # what peak_memory has started
        return
    args.sizes = args.sizes or default_sizes(cfg)
    check(cfg, args)
    result = analyze(cfg, args)
    report(result)
    if args.json:
        with atomic_write(args.json) as file:
            file.write(json.dumps(result, indent=2).encode() + b"\n")
    if args.output:
        with atomic_write(args.output) as file:
            draw(result).savefig(file, format="png")
        print(f"{args.output} written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", metavar="FILE", required=True, help="of a detector, or of pretraining")
    parser.add_argument(
        "--sizes", metavar="PIXELS", nargs="+", default=[], help="sides of images; default: up to the configuration's"
    )
    parser.add_argument("--batch-size", metavar="N", type=int, default=1, help="images in a pass")
    parser.add_argument("--train", action="store_true", help="measure optimizer steps")
    parser.add_argument(
        "--repeats", metavar="N", type=int, default=3, help="passes that are timed, after one that isn't"
    )
    parser.add_argument("--device", default="", help="cpu, cuda or cuda:N")
    parser.add_argument("--output", metavar="FILE.png", help="draw the figures there")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--memory-at", metavar="PIXELS", type=int, help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("pairs", metavar="KEY VALUE", nargs="*", help="settings")
    args = parser.parse_intermixed_args(arguments)
    sizes = list(itertools.takewhile(str.isdigit, args.sizes))
    args.pairs += args.sizes[len(sizes) :]  # KEY VALUE after the last size
    args.sizes = [int(size) for size in sizes]
    return args


def default_sizes(cfg: CfgNode) -> list[int]:
    """Half, three quarters and all of the size that the configuration is made for, in multiples of 32 pixels."""
    node = cfg.MODEL.CONVMAE
    full = node.IMAGE_SIZE if is_detector(cfg) else node.PRETRAIN_IMAGE_SIZE
    return sorted({max(32, round(full * share / 32) * 32) for share in (0.5, 0.75, 1)})


def check(cfg: CfgNode, args: argparse.Namespace) -> None:
    largest, padded = max(args.sizes), cfg.MODEL.CONVMAE.SQUARE_PAD
    if min(args.sizes) < 32:
        raise InputError(f"--sizes holds {min(args.sizes)}; images of 32 pixels are the smallest")
    if 0 < padded < largest:
        raise InputError(
            f"--sizes holds {largest}, but MODEL.CONVMAE.SQUARE_PAD is {padded}: it must be as large, or 0"
        )
    for name in ("batch_size", "repeats"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be at least 1")
    if args.output and not args.output.lower().endswith(".png"):
        raise InputError(f"{args.output} would hold a PNG picture: let its name end in .png")


def analyze(cfg: CfgNode, args: argparse.Namespace) -> dict:
    """All figures; for each image size seconds a pass, operations by part, and bytes at the peak."""
    precision = precision_of(cfg, args.train)
    announce(precision)
    kind, rows, counts = cfg.MODEL.DEVICE.split(":")[0], [], Counter()
    with tqdm(total=len(args.sizes) * (args.repeats + 3), desc="passes", disable=None) as progress:
        for size in sorted(set(args.sizes)):
            progress.set_postfix_str(f"{size}×{size} pixels")
            memory = peak_memory(cfg, args, size)
            progress.update()
            run = Pass(cfg, size, args.batch_size, args.train)
            times = []
            for _ in range(args.repeats + 1):
                times.append(seconds(run, kind))
                progress.update()
            operations = run.operations()
            progress.update()
            counts = parameters(run.model)
            del run
            rows.append(
                {
                    "size": size,
                    "seconds": statistics.median(times[1:]),
                    "operations": {part: operations[part] for part in ordered({*counts, *operations})},
                    "memory": memory,
                }
            )
    return {
        "config_file": args.config_file,
        **machine(kind),
        "precision": str(precision),
        "train": args.train,
        "batch_size": args.batch_size,
        "parameters": {part: counts[part] for part in ordered(counts)},
        "sizes": rows,
    }


def ordered(parts) -> list[str]:
    """Parts in the order of PARTS, stages by number."""
    names = [name for _, name in PARTS]
    return sorted(parts, key=lambda part: (names.index(part) if part in names else len(names) * (part == REST), part))


def peak_memory(cfg: CfgNode, args: argparse.Namespace, size: int) -> int:
    """Bytes, as the module's docstring says."""
    if cfg.MODEL.DEVICE.startswith("cuda"):
        return cuda_peak(lambda: run_for_memory(cfg, args, size))
    command = ["--config-file", args.config_file, "--device", "cpu", *args.pairs]
    command += ["--batch-size", str(args.batch_size), "--memory-at", str(size), *(["--train"] if args.train else [])]
    try:
        return process_peak(__file__, *command)
    except InputError as error:
        raise InputError(f"images of {size} pixels can't be run: {error}") from error


def run_for_memory(cfg: CfgNode, args: argparse.Namespace, size: int) -> None:
    run = Pass(cfg, size, args.batch_size, args.train)
    run()
    if args.train:  # the optimizer's state is made by the first step
        run()


def report(result: dict) -> None:
    """Prints the tables."""
    first, batch = result["sizes"][0], result["batch_size"]
    kind = "optimizer step" if result["train"] else "forward pass"
    print(f"{result['config_file']}: {kind}, batch {batch}, {result['device']}, torch {result['torch']}")
    print(f"Precision: {result['precision']}\n")
    rows = []
    for part in ordered({*result["parameters"], *first["operations"]}):
        operations = [row["operations"].get(part, 0) for row in result["sizes"]]
        rows.append([part, result["parameters"].get(part, 0), *operations])
    rows = [row for row in rows if any(row[1:])]
    rows.append(["total", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True))])
    headers = ["part", "parameters, M", *(f"GFLOP at {row['size']}" for row in result["sizes"])]
    print(table([[row[0], f"{row[1] / 1e6:.2f}", *(f"{n / 1e9:.2f}" for n in row[2:])] for row in rows], headers))
    print("\nGFLOP: operations of a forward pass for one image, a multiply-add counted as two.\n")

    headers = ["size", "seconds a pass", "images/s", "GFLOP/s", "time a pixel", "GFLOP a pixel", "ratio", "memory, GB"]
    rows = []
    for row in result["sizes"]:
        time, work = cost_per_pixel(row, first)
        rate = sum(row["operations"].values()) * batch * (3 if result["train"] else 1) / row["seconds"]
        shown = (
            (row["seconds"], 3),
            (batch / row["seconds"], 2),
            (rate / 1e9, 0),
            (time, 2),
            (work, 2),
            (time / work, 2),
        )
        numbers = [f"{value:.{digits}f}" for value, digits in (*shown, (row["memory"] / 1e9, 2))]
        rows.append([f"{row['size']}×{row['size']}", *numbers])
    print(table(rows, headers))
    print(
        f"\nTime and GFLOP a pixel: relative to {first['size']}×{first['size']}. Their ratio is 1 where time follows "
        f"operations.{' GFLOP/s: a backward pass counts as two forward.' if result['train'] else ''}"
    )


def cost_per_pixel(row: dict, first: dict) -> tuple[float, float]:
    """Time and operations for a pixel, as multiples of those at the first size."""
    pixels = (row["size"] / first["size"]) ** 2
    work = sum(row["operations"].values()) / sum(first["operations"].values())
    return row["seconds"] / first["seconds"] / pixels, work / pixels


def table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * (len(headers) - 1)))


def draw(result: dict) -> Figure:
    """Operations by part, time and memory, each by image size."""
    figure = Figure((12.5, 4.2), dpi=120, layout="constrained")
    work, time, memory = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    rows = result["sizes"]
    sizes = [row["size"] for row in rows]
    draw_operations(work, result)
    pixels = [size**2 for size in sizes]
    operations = [sum(row["operations"].values()) for row in rows]
    predicted = [rows[0]["seconds"] * n / operations[0] for n in operations]
    time.plot(pixels, [row["seconds"] for row in rows], "o-", color="C0", label="measured")
    time.plot(pixels, predicted, "--", color="C1", label="as operations grow")
    time.legend(frameon=False, fontsize=8)
    kind = "optimizer step" if result["train"] else "forward pass"
    time.set_title(f"seconds, {kind}, batch {result['batch_size']}", fontsize=10)
    memory.plot(pixels, [row["memory"] / 1e9 for row in rows], "o-", color="C2")
    memory.set_title("memory at the peak, GB", fontsize=10)
    for ax in (time, memory):
        ax.set_xticks(pixels, [f"{size}²" for size in sizes])
        ax.set_xlim(0, pixels[-1] * 1.06)
        ax.set_ylim(0, 1.08 * ax.get_ylim()[1])
        ax.grid(alpha=0.3)
    for ax in (work, time, memory):
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("image, pixels", fontsize=9)
    figure.suptitle(f"{result['config_file']} on {result['device']}, torch {result['torch']}", fontsize=10)
    return figure


def draw_operations(ax: Axes, result: dict) -> None:
    """A bar for each size, stacked by part; the legend, in the order of the stack, names the parameters, too."""
    rows = result["sizes"]
    bottom = [0.0] * len(rows)
    parts = ordered({*result["parameters"], *rows[0]["operations"]})
    for number, part in enumerate(parts):
        heights = [row["operations"].get(part, 0) / 1e9 for row in rows]
        count = result["parameters"].get(part, 0)
        if count or any(heights):
            label = f"{part}, {count / 1e6:.1f} M"
            ax.bar([f"{row['size']}²" for row in rows], heights, 0.6, bottom, label=label, color=f"C{number}")
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    for column, total in enumerate(bottom):
        ax.annotate(f"{total:,.4g}", (column, total), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    ax.set_title("GFLOP, forward for one image", fontsize=10)
    total = sum(result["parameters"].values()) / 1e6
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles[::-1], labels[::-1], title=f"part, parameters ({total:.1f} M)", frameon=False, fontsize=8,
        title_fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5),
    )  # fmt: skip


if __name__ == "__main__":
    try:
        with quiet():
            main()
    except InputError as error:
        sys.exit(f"error: {error}")
