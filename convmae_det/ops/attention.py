"""Scaled dot-product attention, and what is added to its logits: relative position biases and padding masks.

Grids are (h, w) in tokens, L = h·w, raster order. Displacements are query minus key. While a model is traced for
export, h and w are tensors, and no branch depends on them: the trace serves all grids.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from . import choice
from .table_attention import attend_by_table


class TableBias(NamedTuple):
    """A bias that is looked up where it is used."""

    table: torch.Tensor  # (heads, 2h−1, 2w−1)
    grid: tuple[int, int]


class MatrixBias(NamedTuple):
    """A bias of all pairs that is looked up once for all blocks and images, without a gradient of its own.

    Each block's gradients, of all its images, are added up in the table's.
    """

    table: torch.Tensor  # (heads, 2h−1, 2w−1)
    grid: tuple[int, int]
    matrix: torch.Tensor  # (1, heads, L, L)


Bias = torch.Tensor | TableBias | MatrixBias | None  # what is added to the logits


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: Bias = None) -> torch.Tensor:
    """Attention of (B, heads, S, d); `bias` is added to the logits, broadcastable to (B, heads, S, S)."""
    if isinstance(bias, TableBias):
        return attend_by_table(query, key, value, *bias)
    if isinstance(bias, MatrixBias):
        bias = _Share.apply(*bias, len(query))
    with choice.choose_attention_kernels(bias):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def attend_by_axes(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Attention on a grid (h, w) of L = h·w tokens, with a bias that is the sum of a term for a key's row and column.

    Such a bias is a scalar product, too: of the terms with the key's row and column as ones among zeros. As h + w more
    channels of query and key it needs no matrix of all pairs.

    Args:
        query, key, value: (B, heads, L, d)
        rows, columns: (B, heads, L, h) and (B, heads, L, w)

    Returns:
        (B, heads, L, d)
    """
    (*batch, length, d), h, w = key.shape, rows.shape[-1], columns.shape[-1]
    if not choice.folds_bias(key.device, d + h + w, length):
        bias = rows[..., :, None] + columns[..., None, :]
        return attend(query, key, value, bias.flatten(-2))
    token = torch.arange(length, device=key.device)[:, None]
    row = token.div(w, rounding_mode="floor") == torch.arange(h, device=key.device)
    column = token % w == torch.arange(w, device=key.device)
    places = torch.cat([row, column], dim=1).to(key.dtype).expand(*batch, length, h + w)
    wide_query = torch.cat([query * d**-0.5, rows.to(query.dtype), columns.to(query.dtype)], dim=-1)
    wide_key, wide_value = torch.cat([key, places], dim=-1), F.pad(value, (0, h + w))  # kernels want equal widths
    return F.scaled_dot_product_attention(wide_query, wide_key, wide_value, scale=1.0)[..., :d]


def build_grid_bias(table: torch.Tensor, grid: tuple[int, int], tokens: torch.Tensor) -> Bias:
    """The biases of a table in the form in which global attention takes them, for all blocks; None: there are none.

    Args:
        table: (heads, 2h−1, 2w−1)
        grid: (h, w)
        tokens: (N, h, w, C), which attend
    """
    if choice.runs_eagerly(table.device) and not torch.is_grad_enabled():
        # Zeros, as pretraining hands over, are no bias: features then are those of pretraining, bit for bit.
        if not table.any():
            return None
        table = table.detach()
    if choice.bias_stays_table(table.device, grid[0] * grid[1]):
        return TableBias(table, grid)
    if choice.bias_is_shared(table.device):
        return MatrixBias(table, grid, _look_up_narrow(table, grid, tokens))
    return build_matrix_bias(table, grid, tokens)


def build_matrix_bias(table: torch.Tensor, grid: tuple[int, int], tokens: torch.Tensor) -> torch.Tensor:
    """The biases of `table` (heads, 2h−1, 2w−1) for all pairs: (1, heads, L, L), in the dtype of the attention."""
    if find_attention_dtype(tokens) == table.dtype or choice.is_transformed():
        return _align(look_up(table, grid)[None].to(find_attention_dtype(tokens)))
    return _Share.apply(table, grid, _look_up_narrow(table, grid, tokens), 1)


def _look_up_narrow(table: torch.Tensor, grid: tuple[int, int], tokens: torch.Tensor) -> torch.Tensor:
    """The biases for all pairs, (1, heads, L, L), in the dtype of the attention, without a gradient."""
    return _align(look_up(table.detach().to(find_attention_dtype(tokens)), grid)[None])


def mask_bias(bias: torch.Tensor | None, mask: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor | None:
    """Adds to the biases of attention inside windows a value that no key survives where a mask forbids it.

    Args:
        bias: (1, heads, S, S); None: without
        mask: bool (windows, S, S), which key each query may see, the same for all images; None: `bias` as it is
        tokens: (N, h, w, C)

    Returns:
        (N·windows, heads or 1, S, S)
    """
    if mask is None:
        return bias
    dtype = find_attention_dtype(tokens)
    forbidden = torch.finfo(dtype).min / 2  # finite, with room for a bias: some kernels give NaN for −∞
    hidden = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, forbidden)[:, None]
    bias = hidden if bias is None else bias + hidden
    return _align(bias.repeat(tokens.shape[0], 1, 1, 1))


def _align(bias: torch.Tensor) -> torch.Tensor:
    """The same (…, S) with strides that the kernels want, which else would copy it in each block."""
    columns = choice.choose_bias_alignment(bias.device)
    if columns == 1 or bias.shape[-1] % columns == 0:
        return bias
    return F.pad(bias, (0, -bias.shape[-1] % columns))[..., : bias.shape[-1]]


def find_attention_dtype(tokens: torch.Tensor) -> torch.dtype:
    """That of the products that autocast, or else the tokens, decide on."""
    device = tokens.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tokens.dtype


def needs_mask(padding: tuple[int, int, int, int]) -> bool:
    """Whether maps padded by so many tokens hide any. What compiles or traces always masks: it serves all sizes."""
    return choice.is_transformed() or any(padding)


def look_up(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(heads, 2h−1, 2w−1) → (heads, L, L): the entry for each query and key."""
    h, w = grid
    return slide(slide(table, 1, h), 2, w).reshape(-1, h * w, h * w)


class _Share(torch.autograd.Function):
    """Gives a matrix of biases to a number of images; their gradients are added up in the table and in its type.

    So neither gradients of all pairs in a wider type nor their sums over images and blocks are ever there.
    """

    @staticmethod
    def forward(
        ctx: Any, table: torch.Tensor, grid: tuple[int, int], matrix: torch.Tensor, images: int
    ) -> torch.Tensor:
        ctx.grid, ctx.dtype = grid, table.dtype
        return matrix.expand(images, -1, -1, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        h, w = ctx.grid
        pairs = gradient.unflatten(-1, ctx.grid).unflatten(-3, ctx.grid)  # (N, heads, h, w, h, w), queries first
        diagonals = (pairs.diagonal(-displacement, 2, 4) for displacement in range(1 - h, h))  # of rows: none is copied
        of_rows = torch.stack([diagonal.sum((0, -1), dtype=ctx.dtype) for diagonal in diagonals], dim=1)
        # (heads, 2h−1, w, w): with keys turned around and each query's row moved on by one, columns are displacements
        moved = F.pad(of_rows.flip(-1), (0, w)).flatten(-2)[..., :-w].unflatten(-1, (w, 2 * w - 1))
        return moved.sum(-2), None, None, None


def slide(table: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """(…, 2·size−1, …) → (…, size, …, size): `axis` becomes that of the queries, the last one is that of the keys.

    The displacement grows with the query and falls with the key, so a sliding window over the table, turned around, is
    the lookup: no index is stored. ONNX and torch.compile know such windows of a constant size only; there it is looked
    up by index.
    """
    if not choice.is_transformed():
        return table.unfold(axis, size, 1).flip(-1)
    tokens = torch.arange(size, device=table.device)
    index = tokens[:, None] - tokens + size - 1
    return table.index_select(axis, index.flatten()).unflatten(axis, (size, size)).movedim(axis + 1, -1)
