"""What a GPU launches, moves and keeps in a pretraining step in bfloat16, counted on tensors without values."""

import argparse

import torch
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from benchmarks.steps import PRETRAINING, configuration
from convmae_det.costs.gpu_step import Counts, count_step

FIGURES = ("kernels", "gigabytes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arch", default="base")
    parser.add_argument("--batch", type=int, default=256, help="images in a step")
    parser.add_argument("--size", type=int, default=224, help="pixels along the side of an image")


def measure(args: argparse.Namespace) -> dict:
    counts = count_pretraining(args.arch, args.batch, args.size)
    kinds = {
        kind: dict(zip(FIGURES, (counts.kernels[kind], moved / 1e9), strict=True))
        for kind, moved in counts.moved.most_common()
    }
    return {
        **{name: getattr(args, name) for name in ("task", "arch", "batch", "size")},
        "torch": torch.__version__,
        "kinds": kinds,
        "kept_gigabytes": counts.kept / 1e9,
    }


def count_pretraining(arch: str, batch: int, size: int) -> Counts:
    """Counts a step of the masked autoencoder on `batch` images of `size`×`size` pixels, without its optimizer."""
    cfg = configuration(PRETRAINING, size, arch)

    def build() -> nn.Module:
        return META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)

    def run(model: nn.Module) -> torch.Tensor:
        images = torch.empty(batch, 3, size, size, dtype=torch.uint8)
        return model({"images": images})["loss_reconstruction"]

    return count_step(build, run)


def report(result: dict) -> None:
    size = f"{result['size']}×{result['size']}"
    print(f"{result['arch']}, {result['batch']} images of {size} pixels, bfloat16, not compiled:")
    total = {name: sum(figures[name] for figures in result["kinds"].values()) for name in FIGURES}
    for kind, figures in [*result["kinds"].items(), ("together", total)]:
        print(f"  {kind:17} {figures['kernels']:6} kernels {figures['gigabytes']:8.2f} GB moved")
    print(f"  kept for the backward pass: {result['kept_gigabytes']:.2f} GB")
