"""Global attention with a shared relative position table: the forms that it can take.

One workload is the global attention of a forward pass, or of a training step without its linear layers: the detector's
four global blocks on one image, each with its own queries, keys and values, all with the same table.
"""

import argparse
import functools
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.checkpoint import checkpoint

from convmae_det.config.presets import PRESETS
from convmae_det.costs.measuring import (
    describe_machine,
    measure_cuda_peak,
    measure_medians,
    measure_process_peak,
    print_peak,
)
from convmae_det.ops.attention import look_up
from convmae_det.ops.table_attention import attend_by_table

BLOCKS = 4
INFERENCE, TRAINING = "inference", "training"
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}  # of the largest result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=1024, help="pixels along the side of the image")
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)  # of the process that measures memory
    parser.add_argument("--mode", choices=(INFERENCE, TRAINING), help=argparse.SUPPRESS)
    parser.set_defaults(print_memory=print_memory)


def materialised(blocks: list, table: torch.Tensor, grid: tuple[int, int]) -> list[torch.Tensor]:
    """The published form: each block looks up its bias, and has logits and probabilities of its own."""
    attended = []
    for query, key, value in blocks:
        logits = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1) + look_up(table, grid).to(query.dtype)
        attended.append(logits.softmax(-1) @ value)
    return attended


def fused(blocks: list, table: torch.Tensor, grid: tuple[int, int]) -> list[torch.Tensor]:
    """PyTorch's kernel; all blocks share the bias, which is looked up once."""
    bias = look_up(table, grid)[None].to(blocks[0][0].dtype)
    return [F.scaled_dot_product_attention(*block, attn_mask=bias) for block in blocks]


def checkpointed(blocks: list, table: torch.Tensor, grid: tuple[int, int]) -> list[torch.Tensor]:
    """PyTorch's kernel for one head at a time, once more in the backward pass, with a bias looked up for it."""

    def attend_head(query, key, value, table):
        bias = look_up(table, grid)[None].to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)

    attended = []
    for block in blocks:
        heads = zip(*(part.split(1, dim=1) for part in block), table.split(1), strict=True)
        attended.append(torch.cat([checkpoint(attend_head, *head, use_reentrant=False) for head in heads], dim=1))
    return attended


def flex(blocks: list, table: torch.Tensor, grid: tuple[int, int]) -> list[torch.Tensor]:
    """FlexAttention, compiled, with the table looked up in its score function."""
    (h, w), table = grid, table.to(blocks[0][0].dtype)

    def score(logit, image, head, query, key):
        return logit + table[head, query // w - key // w + h - 1, query % w - key % w + w - 1]

    return [compiled_flex()(*block, score_mod=score) for block in blocks]


@functools.cache
def compiled_flex() -> Callable:
    return torch.compile(flex_attention)


def by_table(blocks: list, table: torch.Tensor, grid: tuple[int, int]) -> list[torch.Tensor]:
    """convmae_det's on the CPU: some rows of queries at a time."""
    return [attend_by_table(*block, table, grid) for block in blocks]


FORMS = {"materialised": materialised, "fused": fused, "by head": checkpointed, "flex": flex, "by table": by_table}


class Workload:
    def __init__(self, form: str, mode: str, args: argparse.Namespace):
        dim, heads = PRESETS[args.arch]["embed_dims"][2], PRESETS[args.arch]["num_heads"]
        self.attend, self.training, self.grid = FORMS[form], mode == TRAINING, (args.size // 16,) * 2
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randn(BLOCKS, 1, self.grid[0] * self.grid[1], 3, heads, dim // heads, generator=generator)
        table = torch.randn(heads, 2 * self.grid[0] - 1, 2 * self.grid[1] - 1, generator=generator)
        self.tokens = tokens.to(args.device, getattr(torch, args.dtype)).requires_grad_(self.training)
        self.table = table.to(args.device).requires_grad_(self.training)

    def __call__(self) -> torch.Tensor:
        """What stands for the result: of inference the tokens, of training the table's gradient."""
        blocks = [block.permute(2, 0, 3, 1, 4).unbind() for block in self.tokens]
        with torch.set_grad_enabled(self.training):
            attended = self.attend(blocks, self.table, self.grid)
        if not self.training:
            return attended[-1]
        self.tokens.grad = self.table.grad = None
        sum(result.float().square().sum() for result in attended).backward()
        return self.table.grad


def measure(args: argparse.Namespace) -> dict:
    """Seconds and bytes of each form that runs here; exits if their results differ."""
    modes = {mode: compare(mode, args) for mode in (INFERENCE, TRAINING)}
    settings = {name: getattr(args, name) for name in ("arch", "size", "dtype", "repeats")}
    return {"task": args.task, **describe_machine(args.device), **settings, "modes": modes}


def compare(mode: str, args: argparse.Namespace) -> dict:
    workloads, results, refused = {}, {}, {}
    for form in FORMS:
        try:
            workloads[form] = Workload(form, mode, args)
            results[form] = workloads[form]()
        except (RuntimeError, NotImplementedError) as error:  # of torch.compile, or a kernel that isn't there
            refused[form] = next(filter(None, str(error).splitlines()), type(error).__name__)
            workloads.pop(form, None)
    expected = results["materialised"].double()
    for form, result in results.items():
        difference = float((result.double() - expected).abs().max() / expected.abs().max())
        if not difference <= TOLERANCE[args.dtype]:
            sys.exit(f"error: the result of {form} in {mode} differs by {difference:.1e} of the largest")
    seconds = measure_medians(workloads, args.repeats, args.device)
    memory = {form: peak_memory(form, mode, args) for form in workloads}
    return {"seconds": seconds, "peak_memory": memory, "refused": refused}


def peak_memory(form: str, mode: str, args: argparse.Namespace) -> int:
    if args.device == "cuda":
        return measure_cuda_peak(Workload(form, mode, args))
    options = [f"--{name}={getattr(args, name)}" for name in ("arch", "dtype", "threads", "size", "device")]
    return measure_process_peak(sys.argv[0], "attention", *options, f"--form={form}", f"--mode={mode}")


def print_memory(args: argparse.Namespace) -> None:
    """The body of the process that :func:`peak_memory` starts."""
    small = argparse.Namespace(**vars(args) | {"size": 32})
    Workload(args.form, args.mode, small)()  # loads what is loaded late
    print_peak(Workload(args.form, args.mode, args))


def report(result: dict) -> None:
    grid = result["size"] // 16
    print(f"{result['arch']}, {BLOCKS} global blocks on {grid}×{grid} tokens, {result['dtype']}")
    print(f"{result['device']}, torch {result['torch']}")
    for mode, figures in result["modes"].items():
        print(mode)
        for form, seconds in figures["seconds"].items():
            print(f"  {form:13} {seconds:8.3f} s  {figures['peak_memory'][form] / 1e9:6.2f} GB")
        for form, reason in figures["refused"].items():
            print(f"  {form:13} can't be used: {reason}")
