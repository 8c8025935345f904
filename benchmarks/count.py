"""Operations and memory traffic of a forward pass by stage, counted, not timed.

benchmarks/traffic.py says what traffic is.
"""

import argparse
import re
from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.steps import FORMS, PRETRAINING, Workload
from benchmarks.traffic import CACHE, Count
from convmae_det.costs.measuring import describe_machine
from convmae_det.costs.operations import REST

# Stages by names of modules, ours and those of the published form.
STAGES = (
    ("stage 1", r"(bottom_up\.|encoder\.)*(stage1|patch_embed1|blocks1)"),
    ("stage 2", r"(bottom_up\.|encoder\.)*(stage2|patch_embed2|blocks2)"),
    ("stage 3", r"(bottom_up\.|encoder\.)*(stage3|patch_embed[34]|blocks3)"),
    ("fusion", r"fusion|stage[12]_output_decode"),
    ("decoder", r"decoder(_\w+)?"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=1024, help="pixels along the side of an image")
    parser.add_argument(
        "--cache", type=float, default=CACHE / 1e6, metavar="MB", help="tensors up to this size are no traffic"
    )
    parser.set_defaults(batch=1, compile=False)


def stages_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        for stage, pattern in STAGES:
            if re.fullmatch(pattern + r"(\.\d+)?", name):
                yield stage, module


def measure(args: argparse.Namespace) -> dict:
    kinds = {"backbone inference": args.size, PRETRAINING: 224}
    rows = {kind: {form: count(kind, form, size, args) for form in FORMS} for kind, size in kinds.items()}
    return {
        "task": args.task,
        **describe_machine(args.device),
        "arch": args.arch,
        "sizes": kinds,
        "cache": args.cache,
        "counts": rows,
    }


def count(kind: str, form: str, size: int, args: argparse.Namespace) -> dict:
    workload = Workload(kind, form, size, args)
    with torch.no_grad(), Count(stages_of(workload.model), args.cache * 1e6) as counter:
        workload.run()
    return {
        stage: {"gflop": counter.operations[stage] / 1e9, "gigabytes": counter.traffic[stage] / 1e9}
        for stage in [*(stage for stage, _ in STAGES), REST]
        if counter.operations[stage] or counter.traffic[stage]
    }


def report(result: dict) -> None:
    print(f"{result['device']}, torch {result['torch']}")
    for kind, forms in result["counts"].items():
        size = result["sizes"][kind]
        print(f"{result['arch']}, {kind.split()[0]}, one image of {size}×{size} pixels, forward:")
        for form, stages in forms.items():
            total = {key: sum(figures[key] for figures in stages.values()) for key in ("gflop", "gigabytes")}
            for stage, figures in [*stages.items(), ("together", total)]:
                print(f"  {form:15} {stage:9} {figures['gflop']:8.1f} GFLOP {figures['gigabytes']:7.2f} GB")
