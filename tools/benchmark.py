"""Measures speed and memory against the published form, in one run.

    python tools/benchmark.py pretrain [--arch base] [--batch 16] [--size 224] [--dtype float32] [--json FILE]

`pretrain`: one training step (forward, loss, backward, AdamW) of the masked autoencoder, against the published form
kept with the tests: dense channels-first maps, 1×1 convolutions, materialised attention, all patches predicted. The
forms take turns, so that a change of the machine's speed meets both; times are medians. The machine's own rate is that
of a large matrix product, measured in the same turns. On CUDA times are those of events, memory is what torch holds;
on the CPU memory is how far two steps in a process of their own raise the peak of the resident set.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

MATMUL_SIZE = {"cpu": 3072, "cuda": 8192}
PUBLISHED, OURS = "published form", "convmae_det"


class PretrainingStep:
    """A training step of one form on random images; `build` makes the model without a configuration file."""

    def __init__(self, form: str, args: argparse.Namespace):
        self.device, self.dtype = torch.device(args.device), getattr(torch, args.dtype)
        self.model = build_form(form, args).to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(args.batch, 3, args.size, args.size, generator=generator).to(self.device)
        length = (args.size // 16) ** 2
        self.noise = torch.rand(args.batch, length, generator=generator).to(self.device)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = self.loss()
        loss.backward()
        self.optimizer.step()

    def loss(self) -> torch.Tensor:
        run = self.model.reconstruct if hasattr(self.model, "reconstruct") else self.model
        return run(self.images, self.noise).loss

    def forward_flops(self) -> int:
        """Multiplications and additions of matrix products and convolutions in one forward pass."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.loss()
        return counter.get_total_flops()


def build_form(form: str, args: argparse.Namespace) -> nn.Module:
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from convmae_det.config import add_convmae_config
    from convmae_det.modeling.encoder import PRESETS

    torch.manual_seed(0)
    if form == PUBLISHED:
        from reference import convmae

        grid = (args.size // 16, args.size // 16)
        return convmae.MaskedAutoencoder(**PRESETS[args.arch], grid=grid)
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = "cpu", "MaskedAutoencoder"
    cfg.MODEL.CONVMAE.ARCH, cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE = args.arch, args.size
    return build_model(cfg)


def seconds(function, device: str) -> float:
    """The time that one call takes on the device."""
    if device == "cpu":
        start = time.perf_counter()
        function()
        return time.perf_counter() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def matmul(args: argparse.Namespace):
    """A large matrix product, and its number of operations."""
    size = MATMUL_SIZE[args.device]
    a, b = (torch.randn(size, size, device=args.device, dtype=getattr(torch, args.dtype)) for _ in range(2))
    return lambda: torch.mm(a, b), 2 * size**3


def peak_memory(form: str, args: argparse.Namespace) -> float:
    """Bytes that a training step needs beyond the imported libraries: weights, gradients, optimizer, activations."""
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step = PretrainingStep(form, args)
        step()
        step()
        return torch.cuda.max_memory_allocated() - before
    options = [f"--{name}={getattr(args, name)}" for name in ("arch", "batch", "size", "dtype", "threads")]
    command = [sys.executable, __file__, "memory", *options, f"--form={form}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_memory(args: argparse.Namespace) -> None:
    """The body of the process that :func:`peak_memory` starts."""
    build_form(args.form, argparse.Namespace(arch="tiny", size=32))  # imports everything
    before = resident_peak()
    step = PretrainingStep(args.form, args)
    step()
    step()
    print(resident_peak() - before)


def resident_peak() -> int:
    """Peak resident set of this process in bytes (Linux)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


def measure(args: argparse.Namespace) -> dict:
    """Medians over the repeats, all forms and the matrix product taking turns."""
    memory = {form: peak_memory(form, args) for form in (PUBLISHED, OURS)}
    steps = {form: PretrainingStep(form, args) for form in (PUBLISHED, OURS)}
    flops = {form: step.forward_flops() for form, step in steps.items()}
    product, operations = matmul(args)
    functions = {**steps, "matrix product": product}
    times = {name: [] for name in functions}
    for turn in tqdm(range(args.repeats + 1), desc="turns, the first a warm-up"):
        for name, function in functions.items():
            elapsed = seconds(function, args.device)
            if turn:
                times[name].append(elapsed)
    median = {name: statistics.median(values) for name, values in times.items()}
    rate = operations / median["matrix product"]
    forms = {
        form: {
            "seconds": median[form],
            "images_per_second": args.batch / median[form],
            "forward_gflop_per_image": flops[form] / args.batch / 1e9,
            "share_of_matmul_rate": 3 * flops[form] / median[form] / rate,
            "peak_memory_gb": memory[form] / 1e9,
        }
        for form in steps
    }
    return {
        "task": "pretrain",
        "device": torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        **{name: getattr(args, name) for name in ("arch", "batch", "size", "dtype", "repeats")},
        "matmul_gflops": rate / 1e9,
        "forms": forms,
        "speedup": median[PUBLISHED] / median[OURS],
    }


def report(result: dict) -> None:
    print(
        f"Pretraining step, {result['arch']}, batch {result['batch']}, {result['size']}×{result['size']} pixels, "
        f"{result['dtype']}, {result['device']}, torch {result['torch']}"
    )
    print(f"matrix product: {result['matmul_gflops']:.0f} GFLOP/s")
    for form, row in result["forms"].items():
        print(
            f"{form:<15} {row['seconds']:8.3f} s  {row['images_per_second']:8.2f} images/s  "
            f"{row['forward_gflop_per_image']:6.2f} GFLOP an image forward  "
            f"{row['share_of_matmul_rate']:5.0%} of that rate  {row['peak_memory_gb']:6.2f} GB"
        )
    print(f"{OURS} is {result['speedup']:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("pretrain", "memory"), help="memory is started by the others")
    parser.add_argument("--arch", default="base")
    parser.add_argument("--batch", type=int, default=16, help="images in a step")
    parser.add_argument("--size", type=int, default=224, help="pixels along the side of an image")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="of autocast")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    parser.add_argument("--form", default=OURS, choices=(PUBLISHED, OURS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.task == "memory":
        print_memory(args)
        return
    result = measure(args)
    report(result)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
