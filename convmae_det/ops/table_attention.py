"""Global attention with a shared table of relative position biases, on the CPU, with its gradients.

PyTorch's fused kernel for the CPU takes the bias as a matrix (heads, L, L) and has no gradient for it. Here some rows
of queries at a time attend to all keys: their logits stay in the cache, and their bias is a window that slides over the
table. No matrix of all queries and keys is ever built, and the backward pass needs no more than query, key and value.

Keys are turned around: the displacement from the key at (y, x) of the turned grid to the query at (y', x') is that of
entry (y + y', x + x') of the table, so that the biases of all queries and keys are a view of it.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from . import choice

LOGITS = 2**21  # at a time, or those of one row of queries: 8 MB in float32, a share of the cache

softmax_backward = torch.ops.aten._softmax_backward_data.out
onednn_product = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # torch.compile's form of a linear layer


def product(tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(n, in), (out, in) → (n, out), without gradients; the weight may be a transposed view.

    Where a linear layer is a convolution (layers.py), by oneDNN, too. A convolution would first bring its weight into
    an order of its own, which pays for layers, not for keys and values that a few queries pass.
    """
    if onednn_product is None or not choice.product_is_onednn(tokens.dtype):
        return F.linear(tokens, weight)
    return onednn_product(tokens, weight, None, "none", [], "")


def attend_by_table(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, table: torch.Tensor, grid: tuple[int, int]
) -> torch.Tensor:
    """Scaled dot-product attention with the biases of a table.

    The softmax is computed in float32, or in float64 if that is the table's.

    Args:
        query, key, value: (B, heads, L, d)
        table: (heads, 2h−1, 2w−1)
        grid: (h, w), L = h·w

    Returns:
        (B, heads, L, d)
    """
    table = table.to(torch.promote_types(table.dtype, torch.float32))
    return _TableAttention.apply(query, key, value, table, grid)


class _TableAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        table: torch.Tensor,
        grid: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value, table)
        ctx.grid = grid
        attended = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        for image, head in _heads(query):
            this = _Head(query[image, head], key[image, head], value[image, head], table[head], grid)
            for rows, tokens in this.pieces():
                attended[image, head, tokens] = product(this.attention(rows, tokens).to(query.dtype), this.value.T)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, table = ctx.saved_tensors
        of_query, of_key, of_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        of_table = torch.zeros_like(table)
        for image, head in _heads(query):
            this = _Head(query[image, head], key[image, head], value[image, head], table[head], ctx.grid)
            *of_tokens, of_head = this.backward(gradient[image, head])
            for whole, part in zip((of_query, of_key, of_value), of_tokens, strict=True):
                whole[image, head] = part
            of_table[head] += of_head
        return of_query, of_key, of_value, of_table, None


def _heads(query: torch.Tensor) -> Iterator[tuple[int, int]]:
    return ((image, head) for image in range(query.shape[0]) for head in range(query.shape[1]))


class _Head:
    """Attention of one head in one image: query, key, value (L, d), table (2h−1, 2w−1)."""

    def __init__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        table: torch.Tensor,
        grid: tuple[int, int],
    ):
        self.scale = query.shape[-1] ** -0.5
        self.query = query * self.scale
        self.key = key.flip(0)
        self.value = value.flip(0)
        self.bias = table.unfold(0, grid[0], 1).unfold(1, grid[1], 1)  # (h, w, h, w): query, turned key
        self.grid = grid

    def pieces(self) -> Iterator[tuple[slice, slice]]:
        """The rows of queries that are computed together, and which of the L tokens they are."""
        h, w = self.grid
        count = max(1, LOGITS // (h * w * w))
        for first in range(0, h, count):
            last = min(first + count, h)
            yield slice(first, last), slice(first * w, last * w)

    def attention(self, rows: slice, tokens: slice) -> torch.Tensor:
        """(queries, L) for turned keys, in the table's precision"""
        logits = product(self.query[tokens], self.key).to(self.bias.dtype)
        bias = self.bias[rows]
        logits.view(bias.shape).add_(bias)
        return torch.softmax(logits, -1, out=logits)  # in place, for the cache's sake

    def backward(self, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The gradients of query, key, value (L, d) and of the table, from that of the result (L, d)."""
        (h, w), dtype = self.grid, self.query.dtype
        of_query = torch.empty_like(self.query)
        of_key, of_value = (self.query.new_zeros(self.query.T.shape) for _ in range(2))  # (d, L)
        of_rows = self.bias.new_zeros(2 * h - 1, w, w)  # row of the table, column of the query, of the turned key
        for rows, tokens in self.pieces():
            attention = self.attention(rows, tokens)
            of_value += product(gradient[tokens].T, attention.to(dtype).T)
            of_logits = product(gradient[tokens], self.value).to(attention.dtype)
            softmax_backward(of_logits, attention, -1, attention.dtype, grad_input=of_logits)
            of_query[tokens] = product(of_logits.to(dtype), self.key.T)
            of_key += product(self.query[tokens].T, of_logits.to(dtype).T)
            for row, of_row in zip(range(h)[rows], of_logits.view(-1, w, h, w), strict=True):
                of_rows[row : row + h] += of_row.transpose(0, 1)
        of_table = self.bias.new_zeros(2 * h - 1, 2 * w - 1)
        for column, of_column in enumerate(of_rows.unbind(1)):
            of_table[:, column : column + w] += of_column
        return of_query * self.scale, of_key.T.flip(0), of_value.T.flip(0), of_table
