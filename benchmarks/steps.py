"""Training steps and forward passes of the networks: ours, the published form and peers."""

import argparse
import sys
from collections.abc import Callable, Sequence

import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from benchmarks import peers
from benchmarks import published as convmae
from benchmarks.traffic import Count
from benchmarks.waiting import measure_waiting
from convmae_det.config import add_convmae_config
from convmae_det.config.building import build_window_arguments
from convmae_det.config.presets import PRESETS
from convmae_det.costs.measuring import (
    COPY,
    MATMUL,
    build_copy,
    build_matrix_product,
    describe_machine,
    measure_cuda_peak,
    measure_medians,
    measure_process_peak,
    print_peak,
)
from convmae_det.costs.network import OBJECTS
from convmae_det.data.random_input import make_random_input
from convmae_det.errors import InputError
from convmae_det.modeling.decoder import Decoder
from convmae_det.modeling.encoder import Encoder
from convmae_det.modeling.window_schedule import build_attention_windows
from convmae_det.ops.compilation import compile_modules

PUBLISHED, OURS = "published form", "convmae_det"
FORMS = (PUBLISHED, OURS)
PRETRAINING = "pretraining step"
DETECTION = ("backbone inference", "backbone training step", "detector inference", "detector training step")
PEERS = {PRETRAINING: peers.PRETRAINING, DETECTION[0]: peers.BACKBONES, DETECTION[1]: peers.BACKBONES}  # by kind
PEERS_ARCH = "base"
LOADED = (PRETRAINING, "detector training step")  # which have loaders of their own


class Workload:
    """One call is a forward pass, or a training step (forward, loss, backward, AdamW), of one form on random images."""

    def __init__(self, kind: str, form: str, size: int, args: argparse.Namespace):
        self.device, self.dtype = torch.device(args.device), getattr(torch, args.dtype)
        self.training = kind.endswith("step")
        torch.manual_seed(0)
        self.model = build(kind, form, size, args.arch).to(self.device).train(self.training)
        for name, parameter in self.model.named_parameters():
            if name.endswith(("_bias.table", "relative_position_bias_table")):  # zero at the start, which is left out
                nn.init.normal_(parameter, std=0.02)
        if args.compile and form == OURS:
            compile_modules(self.model, (Encoder, Decoder))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True) if self.training else None
        self.run = getattr(self, kind.split()[0])
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(args.batch, 3, size, size, generator=generator).to(self.device)
        unit = getattr(self.model, "mask_unit", 16)  # pixels along the side of what is hidden as one
        self.noise = torch.rand(args.batch, (size // unit) ** 2, generator=generator).to(self.device)
        cfg = configuration(kind, size, args.arch)
        self.batch = [make_random_input(cfg, size, OBJECTS) for _ in range(args.batch)]

    def __call__(self) -> None:
        if not self.training:
            self.forward()
            return
        self.optimizer.zero_grad(set_to_none=True)
        self.forward().backward()
        self.optimizer.step()

    def forward(self) -> torch.Tensor:
        """The loss, or a number that depends on all that a forward pass gives."""
        with torch.set_grad_enabled(self.training), self.autocast():
            return self.run()

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def pretraining(self) -> torch.Tensor:
        run = self.model.reconstruct if hasattr(self.model, "reconstruct") else self.model
        return run(self.images, self.noise).loss

    def backbone(self) -> torch.Tensor:
        features = self.model(self.images)
        features = features.values() if isinstance(features, dict) else features
        return sum(feature.float().square().mean() for feature in features)

    def detector(self) -> torch.Tensor:
        if not self.training:
            return sum(result["instances"].scores.sum() for result in self.model(self.batch))
        with EventStorage():
            return sum(self.model(self.batch).values())

    def train_on(self, batch: list[dict] | dict) -> None:
        """A training step on what a loader gives."""
        self.run = lambda: sum(self.model(batch).values())
        with EventStorage():
            self()

    def count_forward(self) -> tuple[int, int]:
        """Operations, and bytes read and written, of one forward pass."""
        with torch.no_grad(), self.autocast(), Count() as counter:
            self.run()
        return counter.operations.total(), counter.traffic.total()


def configuration(kind: str, size: int, arch: str):
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.MODEL.DEVICE, cfg.MODEL.CONVMAE.ARCH = "cpu", arch
    cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE = cfg.MODEL.CONVMAE.IMAGE_SIZE = size
    cfg.INPUT.MASK_FORMAT = "bitmask"
    if kind == PRETRAINING:
        cfg.MODEL.META_ARCHITECTURE = "MaskedAutoencoder"
    return cfg


def build(kind: str, form: str, size: int, arch: str) -> nn.Module:
    """The network; the published form of a detector has the published backbone under Detectron2's pyramid and heads."""
    if form not in FORMS:
        return PEERS[kind][form](size)
    grid = (size // 16, size // 16)
    if kind == PRETRAINING and form == PUBLISHED:
        return convmae.MaskedAutoencoder(**PRESETS[arch], grid=grid)
    cfg = configuration(kind, size, arch)
    model = build_model(cfg)
    if kind != PRETRAINING and form == PUBLISHED:
        windows = build_attention_windows(PRESETS[arch]["depths"][2], **build_window_arguments(cfg))
        model.backbone.bottom_up = convmae.DetectionBackbone(**PRESETS[arch], grid=grid, windows=windows)
    return model.backbone.bottom_up if kind.startswith("backbone") else model


def peak_memory(kind: str, form: str, size: int, args: argparse.Namespace) -> int:
    """Bytes that a call needs beyond the imported libraries: weights, activations, gradients, optimizer."""
    if args.device == "cuda":
        return measure_cuda_peak(lambda: run_twice(kind, form, size, args))
    options = [f"--{name}={getattr(args, name)}" for name in ("arch", "batch", "dtype", "threads")]
    return measure_process_peak(sys.argv[0], "memory", *options, f"--size={size}", f"--form={form}", f"--kind={kind}")


def run_twice(kind: str, form: str, size: int, args: argparse.Namespace) -> None:
    """Twice, since an optimizer's state is made by the first step."""
    workload = Workload(kind, form, size, args)
    workload()
    workload()


def print_memory(args: argparse.Namespace) -> None:
    """The body of the process that :func:`peak_memory` starts."""
    build(args.kind, OURS, 32, "tiny")  # loads what is loaded late
    print_peak(lambda: run_twice(args.kind, args.form, args.size, args))


def forms_of(kind: str, size: int, args: argparse.Namespace) -> list[str]:
    """What is compared: the forms of our network and, if it is as large as they are, peers."""
    forms = [form for form in FORMS if form == OURS or size <= args.published_up_to]
    if args.arch != PEERS_ARCH:
        return forms
    return forms + [name for name in PEERS.get(kind, {}) if args.peers is None or name in args.peers]


def compare(kind: str, size: int, args: argparse.Namespace) -> dict:
    """The figures of all forms of one workload, a matrix product and a copy taking turns with them.

    These two make the roofline: no form takes less time than its operations at the rate of the one, or its bytes at
    that of the other.
    """
    forms = forms_of(kind, size, args)
    memory = {form: peak_memory(kind, form, size, args) for form in forms}
    workloads: dict[str, Callable] = {form: Workload(kind, form, size, args) for form in forms}
    counts = {form: workload.count_forward() for form, workload in workloads.items()}
    flops = {form: operations for form, (operations, _) in counts.items()}
    product, operations = build_matrix_product(args.device, args.dtype)
    copy, copied = build_copy(args.device)
    median = measure_medians({**workloads, MATMUL: product, COPY: copy}, args.repeats, args.device)
    rate, bandwidth = operations / median[MATMUL], copied / median[COPY]
    passes = 3 if kind.endswith("step") else 1  # a backward pass counts as two forward
    rows = {
        form: {
            "seconds": median[form],
            "images_per_second": args.batch / median[form],
            "forward_gflop_per_image": flops[form] / args.batch / 1e9,
            "forward_gigabytes_per_image": counts[form][1] / args.batch / 1e9,
            "share_of_matmul_rate": passes * flops[form] / median[form] / rate,
            "share_of_roofline": passes * max(flops[form] / rate, counts[form][1] / bandwidth) / median[form],
            "peak_memory_gb": memory[form] / 1e9,
        }
        for form in forms
    }
    ratios = {
        "peers": {
            name: {"time_ratio": median[OURS] / median[name], "operations_ratio": flops[OURS] / flops[name]}
            for name in forms
            if name not in FORMS
        }
    }
    if PUBLISHED in forms:
        ratios["speedup"] = median[PUBLISHED] / median[OURS]
        ratios["memory_ratio"] = memory[OURS] / memory[PUBLISHED]
    if kind in LOADED:
        ratios["share_waiting_for_data"] = measure_waiting(kind, size, args, workloads[OURS].train_on)
    speeds = {"matmul_gflops": rate / 1e9, "copy_gigabytes_per_second": bandwidth / 1e9}
    return {"kind": kind, "size": size, **speeds, "forms": rows, **ratios}


def measure(kinds: Sequence[str], sizes: Sequence[int], args: argparse.Namespace) -> dict:
    if args.peers and args.arch != PEERS_ARCH:
        raise InputError(f"--peers are networks of base size: use --arch {PEERS_ARCH}, not {args.arch}")
    rows = [compare(kind, size, args) for kind in kinds for size in sizes]
    settings = {name: getattr(args, name) for name in ("arch", "batch", "dtype", "compile", "repeats")}
    return {"task": args.task, **describe_machine(args.device), **settings, "workloads": rows}


def report(result: dict) -> None:
    print(f"{result['arch']}, batch {result['batch']}, {result['dtype']}, {result['device']}, torch {result['torch']}")
    for row in result["workloads"]:
        print(
            f"\n{row['kind']}, {row['size']}×{row['size']} pixels; matrix product {row['matmul_gflops']:.0f} GFLOP/s, "
            f"copy {row['copy_gigabytes_per_second']:.1f} GB/s"
        )
        for form, figures in row["forms"].items():
            print(
                f"{form:<15} {figures['seconds']:8.3f} s  {figures['images_per_second']:8.2f} images/s  "
                f"{figures['forward_gflop_per_image']:8.2f} GFLOP an image forward  "
                f"{figures['share_of_matmul_rate']:5.0%} of that rate  "
                f"{figures['share_of_roofline']:5.0%} of the roofline  {figures['peak_memory_gb']:6.2f} GB"
            )
        if "speedup" in row:
            print(f"{OURS} is {row['speedup']:.2f} times as fast, with {row['memory_ratio']:.0%} of the memory")
        for name, ratios in row["peers"].items():
            print(
                f"{OURS} takes {ratios['time_ratio']:.2f} times the time of {name}, "
                f"with {ratios['operations_ratio']:.2f} times its operations"
            )
        if "share_waiting_for_data" in row:
            print(f"{OURS} waits for images {row['share_waiting_for_data']:.1%} of the time")
    for kind in dict.fromkeys(row["kind"] for row in result["workloads"]):
        report_scaling([row for row in result["workloads"] if row["kind"] == kind])


def report_scaling(rows: Sequence[dict]) -> None:
    """How time grows with the image, against what the operations say.

    In units of the matrix products that took turns with each size, since the machine may change its speed meanwhile.
    """
    if len(rows) < 2:
        return
    first = rows[0]["size"]
    print(f"\n{rows[0]['kind']}: time over operations, in matrix products, relative to {first}×{first}")
    costs = [1 / row["forms"][OURS]["share_of_matmul_rate"] for row in rows]
    print("  ".join(f"{row['size']}: {cost / costs[0]:.2f}" for row, cost in zip(rows, costs, strict=True)))
