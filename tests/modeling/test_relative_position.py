"""Relative position biases: the lookup without an index, other grids, and the decomposed form."""

from itertools import product

import torch
import torch.nn.functional as F
from detectron2.modeling.backbone.utils import add_decomposed_rel_pos
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from convmae_det.modeling.attention import RelativePositionBias, compute_decomposed_bias, resize_bias_table
from convmae_det.ops.attention import look_up

grids = st.tuples(st.integers(1, 6), st.integers(1, 6))


def tokens_of(grid):
    return list(product(range(grid[0]), range(grid[1])))


def random_bias(grid, heads=2) -> RelativePositionBias:
    bias = RelativePositionBias(heads, grid)
    torch.nn.init.normal_(bias.table)
    return bias


@settings(max_examples=20)
@given(grid=grids, heads=st.integers(1, 3))
def test_lookup_equals_the_index_formula(grid, heads):
    bias, (h, w) = random_bias(grid, heads), grid
    index = [
        [(qy - ky + h - 1) * (2 * w - 1) + (qx - kx + w - 1) for ky, kx in tokens_of(grid)]
        for qy, qx in tokens_of(grid)
    ]
    assert torch.equal(look_up(bias(grid), grid), bias.table.flatten(1)[:, torch.tensor(index)])


@settings(max_examples=20)
@given(trained=grids, data=st.data())
def test_a_smaller_grid_takes_the_centre_of_the_table(trained, data):
    """Exactly: a displacement has the same bias on both grids."""
    grid = tuple(data.draw(st.integers(1, n)) for n in trained)
    bias = random_bias(trained)
    corner = [y * trained[1] + x for y, x in tokens_of(grid)]
    assert torch.equal(look_up(bias(grid), grid), look_up(bias(trained), trained)[:, corner][:, :, corner])


def test_a_larger_grid_takes_a_bicubic_resize():
    table = torch.randn(2, 5, 7)
    expected = F.interpolate(table[None], size=(9, 11), mode="bicubic", align_corners=False)[0]
    assert torch.equal(resize_bias_table(table, (5, 6)), expected)


def test_a_grid_that_is_larger_one_way_and_smaller_the_other():
    table = torch.randn(2, 5, 7)
    resized = resize_bias_table(table, (5, 2))
    assert resized.shape == (2, 9, 3)
    assert_close(resized, resize_bias_table(table[:, :, 2:5], (5, 2)))


@settings(max_examples=20)
@given(trained=grids, grid=grids)
def test_resizing_keeps_symmetry_constants_and_the_centre(trained, grid):
    table = torch.randn(1, 2 * trained[0] - 1, 2 * trained[1] - 1)
    table = table + table.flip(1, 2)
    resized = resize_bias_table(table, grid)
    assert_close(resized, resized.flip(1, 2))
    assert_close(resized[0, grid[0] - 1, grid[1] - 1], table[0, trained[0] - 1, trained[1] - 1])
    assert_close(resize_bias_table(torch.full_like(table, 2.0), grid), torch.full_like(resized, 2.0))


def test_a_table_is_zero_at_the_start():
    bias = RelativePositionBias(3, (4, 5))
    assert bias.table.shape == (3, 7, 9) and not bias((4, 5)).any()


def whole(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(B, heads, L, h) and (B, heads, L, w) → (B, heads, L, L)"""
    return (rows[..., :, None] + columns[..., None, :]).flatten(-2)


@settings(max_examples=15)
@given(grid=st.tuples(st.integers(1, 4), st.integers(1, 4)), heads=st.integers(1, 2))
def test_decomposed_bias_equals_a_double_loop(grid, heads):
    (h, w), d = grid, 3
    query = torch.randn(2, heads, h * w, d)
    rows, columns = torch.randn(2 * h - 1, d), torch.randn(2 * w - 1, d)
    bias = whole(*compute_decomposed_bias(query, rows, columns, grid))
    assert bias.shape == (2, heads, h * w, h * w)
    for (q, (qy, qx)), (k, (ky, kx)) in product(enumerate(tokens_of(grid)), repeat=2):
        expected = query[:, :, q] @ rows[qy - ky + h - 1] + query[:, :, q] @ columns[qx - kx + w - 1]
        assert_close(bias[:, :, q, k], expected)


@settings(max_examples=15)
@given(trained=grids, grid=grids)
def test_decomposed_bias_on_other_grids_is_that_of_vitdet(trained, grid):
    length, d = grid[0] * grid[1], 3
    query = torch.randn(2, 1, length, d)
    rows, columns = (torch.randn(2 * n - 1, d) for n in trained)
    expected = add_decomposed_rel_pos(torch.zeros(2, length, length), query[:, 0], rows, columns, grid, grid)
    assert_close(whole(*compute_decomposed_bias(query, rows, columns, grid))[:, 0], expected)
