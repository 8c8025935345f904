"""Counts operations of what runs: multiplications and additions of matrix products, convolutions and attention.

Our own formulas for torch's basic operations count them, so that the figures are the same with every version of torch
and on every device, whichever kernel it chooses. An operation that is named like a product and has no formula is an
error, so that no count is silently too low.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

REST = "the rest"


def count_product(result: torch.Tensor, args: Sequence) -> int:
    """Counts (…, n) times (n, …), or times the weight (…, n) of a linear layer."""
    return 2 * result.numel() * args[0].shape[-1]


def count_added_product(result: torch.Tensor, args: Sequence) -> int:
    """Counts a, b, c → a + b · c."""
    return count_product(result, args[1:])


def count_convolution(result: torch.Tensor, args: Sequence) -> int:
    """Counts a convolution; its weight is (out, in / groups, …), of a transposed one (in, out / groups, …)."""
    maps, weight, transposed = args[0], args[1], args[6]
    return 2 * (maps if transposed else result).numel() * math.prod(weight.shape[1:])


def count_attention(result: torch.Tensor, args: Sequence) -> int:
    """Counts query · key and weights · value, of (…, S, d), (…, T, d), (…, T, e)."""
    query, key, value = args[:3]
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


# By the name of an operation in torch.ops: the formula for its result and its arguments. The linear layers with an
# underscore are oneDNN's and MKL's. Attention has an operation for each of its kernels, and new ones in each version.
FORMULAS = (
    (r"mm|bmm|mv|dot|vdot|linear|_linear_pointwise|_mkl_linear", count_product),
    (r"addmm_?|baddbmm_?|addmv_?", count_added_product),
    (r"convolution", count_convolution),
    (r"_?scaled_dot_product_(?!\w*backward)\w*", count_attention),
)
# Names of products, such as _int_mm, conv2d_relu or convolution_backward.
PRODUCTS = re.compile(
    r"(\w*_)?([a-z]*mm|[a-z]*mv|v?dot|addr|ger|(bi|tri)?linear|matmul|einsum|tensordot|conv\d?d?|convolution|attention|"
    r"cdist|lstm|gru|rnn)(_\w*)?"
)


def count_operations(operation: Any, result: Any, args: Sequence) -> int:
    """Counts one call of an operation of torch.ops in a forward pass; 0 for what is no product.

    Raises:
        NotImplementedError: it is named like a product and has no formula.
    """
    name = operation.overloadpacket.__name__
    for names, formula in FORMULAS:
        if re.fullmatch(names, name):
            return formula(result[0] if isinstance(result, (tuple, list)) else result, args)
    if PRODUCTS.fullmatch(name):
        raise NotImplementedError(
            f"{operation} can't be counted: it is named like a product, but convmae_det/costs/operations.py has no "
            "formula for it (and none for backward passes)"
        )
    return 0


class OperationCounter(TorchDispatchMode):
    """Counts what runs while it is active in `operations`, by the part whose module is running."""

    def __init__(self, parts: Iterable[tuple[str, nn.Module]] = ()):
        """Takes the modules to distinguish; what runs in none of them belongs to REST.

        Args:
            parts: modules, each with the part that it belongs to; of nested ones the inner one counts
        """
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.modules, self.running, self.handles = list(parts), [REST], []

    @property
    def part(self) -> str:
        """The part that is running."""
        return self.running[-1]

    def __enter__(self) -> "OperationCounter":
        for part, module in self.modules:
            self.handles.append(module.register_forward_pre_hook(lambda *_, part=part: self.running.append(part)))
            self.handles.append(module.register_forward_hook(lambda *_: self.running.pop() and None))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for handle in self.handles:
            handle.remove()
        super().__exit__(*error)

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        if operations := count_operations(operation, result, args):
            self.operations[self.part] += operations
        return result
