"""Scaled dot-product attention with a relative position bias, as a matrix for all pairs of tokens or as its table.

Grids are (h, w) in tokens, L = h·w, raster order. Displacements are query minus key. While a model is traced for
export, h and w are tensors, and no branch depends on them: the trace serves all grids.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from . import choice
from .table_attention import attend_by_table


class TableBias(NamedTuple):
    """A bias that is looked up where it is used."""

    table: torch.Tensor  # (heads, 2h−1, 2w−1)
    grid: tuple[int, int]


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | TableBias | None = None
) -> torch.Tensor:
    """Attention of (B, heads, S, d); `bias` is added to the logits, broadcastable to (B, heads, S, S)."""
    if isinstance(bias, TableBias):
        return attend_by_table(query, key, value, *bias)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def table_bias(table: torch.Tensor, grid: tuple[int, int], dtype: torch.dtype) -> torch.Tensor | TableBias | None:
    """The biases of `table` (heads, 2h−1, 2w−1) in the form in which global attention in `dtype` takes them, for all
    blocks; None: there are none."""
    if choice.runs_eagerly(table.device) and not torch.is_grad_enabled():
        # Zeros, as pretraining hands over, are no bias: features then are those of pretraining, bit for bit.
        if not table.any():
            return None
        table = table.detach()
    if choice.bias_stays_table(table.device, grid[0] * grid[1]):
        return TableBias(table, grid)
    return look_up(table, grid)[None].to(dtype)


def look_up(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(heads, 2h−1, 2w−1) → (heads, L, L): the entry for each query and key."""
    h, w = grid
    return slide(slide(table, 1, h), 2, w).reshape(-1, h * w, h * w)


def slide(table: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """(…, 2·size−1, …) → (…, size, …, size): `axis` becomes that of the queries, the last one is that of the keys.

    The displacement grows with the query and falls with the key, so a sliding window over the table, turned around, is
    the lookup: no index is stored. ONNX knows such windows of a constant size only; a trace looks up by index.
    """
    if not torch.jit.is_tracing():
        return table.unfold(axis, size, 1).flip(-1)
    tokens = torch.arange(size, device=table.device)
    index = tokens[:, None] - tokens + size - 1
    return table.index_select(axis, index.flatten()).unflatten(axis, (size, size)).movedim(axis + 1, -1)
