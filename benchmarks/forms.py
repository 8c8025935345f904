"""The forms of each operation that convmae_det/ops/choice.py chooses among, on the CPU, by size.

An operation is that of the base model in float32: a linear layer of a transformer block, a block's norm and MLP in
stage 1, a depthwise convolution there, global attention with a shared table on one image.
"""

import argparse
import contextlib
import math
import os
from collections.abc import Callable, Iterator

import torch
from torch import nn

from convmae_det.costs.measuring import describe_machine, measure_medians
from convmae_det.modeling.blocks import Mlp
from convmae_det.ops import choice
from convmae_det.ops.attention import attend, attend_by_axes, build_grid_bias
from convmae_det.ops.layers import accelerate, apply_pointwise

SIDES = (8, 14, 20, 24, 32, 48, 64, 96)  # of a square grid of tokens
WIDTH, HEADS, STAGE1 = 768, 12, 256
LARGEST_MATRIX = 64  # side of the grid above which biases for all pairs need too much memory
LEAST_SECONDS = 0.02  # of what is timed at once

Run = Callable[[], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="of square grids of tokens")
    parser.add_argument("--operations", nargs="+", default=list(BUILD), choices=BUILD, metavar="NAME")


def linear(side: int) -> tuple[Callable, tuple, str]:
    tokens = torch.randn(side * side, WIDTH, requires_grad=True)
    layer = nn.Linear(WIDTH, 4 * WIDTH)
    accelerate(layer)
    return lambda: layer(tokens), (tokens, *layer.parameters()), _chosen("linear", choice.linear_is_convolution(tokens))


def attention(side: int) -> tuple[Callable, tuple, str]:
    grid = (side, side)
    tokens = torch.randn(1, side * side, 3, HEADS, WIDTH // HEADS, requires_grad=True)
    table = torch.randn(HEADS, 2 * side - 1, 2 * side - 1, requires_grad=True)

    def run() -> torch.Tensor:
        return attend(*tokens.permute(2, 0, 3, 1, 4), build_grid_bias(table, grid, tokens))

    return run, (tokens, table), _chosen("attention", choice.bias_stays_table(table.device, side * side))


def decomposed(side: int) -> tuple[Callable, tuple, str]:
    parts = [torch.randn(1, HEADS, side * side, c, requires_grad=True) for c in (*[WIDTH // HEADS] * 3, side, side)]
    chosen = {grad: _folds(parts[0], side, grad) for grad in (False, True)}
    name = chosen[True] if chosen[True] == chosen[False] else f"{chosen[False]}, {chosen[True]}"
    return lambda: attend_by_axes(*parts), tuple(parts), name


def depthwise(side: int) -> tuple[Callable, tuple, str]:
    maps = torch.randn(1, side, side, STAGE1).permute(0, 3, 1, 2).requires_grad_()
    layer = nn.Conv2d(STAGE1, STAGE1, 5, padding=2, groups=STAGE1)
    accelerate(layer)
    return (
        lambda: layer(maps),
        (maps, *layer.parameters()),
        _chosen("depthwise", choice.choose_depthwise_group(maps) > 0),
    )


def pieces(side: int) -> tuple[Callable, tuple, str]:
    """Of four times the side: the tokens of stage 1."""
    tokens = torch.randn((4 * side) ** 2, STAGE1, requires_grad=True)
    norm, mlp = nn.LayerNorm(STAGE1), Mlp(STAGE1, 4 * STAGE1)
    accelerate(mlp)
    chosen = {grad: _in_pieces(tokens, grad) for grad in (False, True)}
    name = chosen[True] if chosen[True] == chosen[False] else f"{chosen[False]}, {chosen[True]}"
    return lambda: apply_pointwise(tokens, norm, mlp), (tokens, *norm.parameters(), *mlp.parameters()), name


def _folds(query: torch.Tensor, side: int, training: bool) -> str:
    with torch.set_grad_enabled(training):
        return _chosen("decomposed", choice.folds_bias(query.device, WIDTH // HEADS + 2 * side, side * side))


def _in_pieces(tokens: torch.Tensor, training: bool) -> str:
    with torch.set_grad_enabled(training):
        return _chosen("pieces", choice.choose_piece(tokens) is not None)


BUILD = {"linear": linear, "attention": attention, "decomposed": decomposed, "depthwise": depthwise, "pieces": pieces}


def _chosen(operation: str, fast: bool) -> str:
    return choice.FORMS[operation][fast]


def measure(args: argparse.Namespace) -> dict:
    """Seconds of each form, forward and in a training step, the forms taking turns; and what the rule takes."""
    rows = [compare(operation, side, args) for operation in args.operations for side in args.sides]
    return {"task": args.task, **describe_machine("cpu"), "repeats": args.repeats, "rows": rows}


def compare(operation: str, side: int, args: argparse.Namespace) -> dict:
    run, inputs, chosen = BUILD[operation](side)
    forms = choice.FORMS[operation]
    if operation in ("attention", "decomposed") and side > LARGEST_MATRIX:
        forms = tuple(form for form in forms if form != "matrix")
    turns, counts = {}, {}
    for form in forms:
        for mode, call in (("forward", _forward(run)), ("training", _training(run, inputs))):
            with forced(operation, form):
                counts[form, mode] = _calls(call)
            turns[form, mode] = _repeated(call, counts[form, mode], operation, form)
    seconds = measure_medians(turns, args.repeats, "cpu")
    figures = {f"{form} {mode}": seconds[form, mode] / counts[form, mode] for form, mode in turns}
    return {"operation": operation, "side": side, "chosen": chosen, "seconds": figures}


def _forward(run: Callable) -> Run:
    def call() -> None:
        with torch.no_grad():
            run()

    return call


def _training(run: Callable, inputs: tuple) -> Run:
    def call() -> None:
        result = run()
        torch.autograd.grad(result, inputs, result.detach())

    return call


def _calls(call: Run) -> int:
    """How often a call is made to take as long as can be timed."""
    call()
    once = measure_medians({"once": call}, 1, "cpu")["once"]
    return max(1, math.ceil(LEAST_SECONDS / once))


def _repeated(call: Run, count: int, operation: str, form: str) -> Run:
    def calls() -> None:
        with forced(operation, form):
            for _ in range(count):
                call()

    return calls


@contextlib.contextmanager
def forced(operation: str, form: str) -> Iterator[None]:
    """That form of the operation runs, as a user would ask for it."""
    before = os.environ.get("CONVMAE_OPS")
    os.environ["CONVMAE_OPS"] = f"{operation}={form}"
    choice.read_overrides.cache_clear()
    try:
        yield
    finally:
        os.environ.pop("CONVMAE_OPS")
        if before is not None:
            os.environ["CONVMAE_OPS"] = before
        choice.read_overrides.cache_clear()


def report(result: dict) -> None:
    print(f"milliseconds, forward and in a training step, float32, {result['device']}, torch {result['torch']}")
    for row in result["rows"]:
        side = row["side"] * (4 if row["operation"] == "pieces" else 1)
        forms = dict.fromkeys(name.split()[0] for name in row["seconds"])
        times = "  ".join(
            f"{form} {row['seconds'][f'{form} forward'] * 1e3:9.3f} {row['seconds'][f'{form} training'] * 1e3:9.3f}"
            for form in forms
        )
        print(f"{row['operation']:9} {side:4}×{side:<4} {times}  chosen: {row['chosen']}")
