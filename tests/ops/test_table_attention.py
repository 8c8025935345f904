"""Attention with a table of biases, some rows at a time, against the form with all of them in a matrix."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from convmae_det.ops import choice, table_attention
from convmae_det.ops.attention import TableBias, attend, build_grid_bias, look_up
from convmae_det.ops.table_attention import attend_by_table

grids = st.tuples(st.integers(1, 7), st.integers(1, 7))


def random_parts(batch, heads, width, grid, dtype=torch.float64):
    """query, key and value as views of what a linear layer gives, (batch, heads, L, width), and a table"""
    tokens = torch.randn(batch, grid[0] * grid[1], 3, heads, width, dtype=dtype, requires_grad=True)
    table = torch.randn(heads, 2 * grid[0] - 1, 2 * grid[1] - 1, dtype=dtype, requires_grad=True)
    return tokens, table


def whole(tokens, table, grid):
    return F.scaled_dot_product_attention(*tokens.permute(2, 0, 3, 1, 4), attn_mask=look_up(table, grid)[None])


def by_table(tokens, table, grid):
    return attend_by_table(*tokens.permute(2, 0, 3, 1, 4), table, grid)


@settings(max_examples=30)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    width=st.integers(1, 6),
    grid=grids,
    rows=st.integers(0, 8),
    precision=st.sampled_from([(torch.float64, 1e-9), (torch.float32, 1e-4)]),
    seed=st.integers(0, 99),
)
def test_equals_attention_with_a_matrix_of_biases(batch, heads, width, grid, rows, precision, seed):
    """In results and gradients, however many rows are computed together."""
    dtype, tolerance = precision
    h, w = grid
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_attention, "LOGITS", rows * h * w * w)
        torch.manual_seed(seed)
        tokens, table = random_parts(batch, heads, width, grid, dtype)
        ours, expected = by_table(tokens, table, grid), whole(tokens, table, grid)
        assert_close(ours, expected, rtol=tolerance, atol=tolerance)
        direction = torch.randn_like(expected)
        gradients = torch.autograd.grad(ours, (tokens, table), direction)
        others = torch.autograd.grad(expected, (tokens, table), direction)
        assert_close(gradients, others, rtol=tolerance, atol=tolerance)


def test_equals_it_on_a_large_grid():
    """Where a row of logits fills more than one of the kernels' vectors and blocks."""
    grid = (40, 75)
    tokens, table = random_parts(1, 1, 4, grid, torch.float32)
    ours, expected = by_table(tokens, table, grid), whole(tokens, table, grid)
    assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    direction = torch.randn_like(expected)
    gradients = torch.autograd.grad(ours, (tokens, table), direction)
    assert_close(gradients, torch.autograd.grad(expected, (tokens, table), direction), rtol=1e-3, atol=1e-4)


def with_gradients(attended, tokens, table):
    torch.manual_seed(1)
    direction = torch.randn(attended.shape, dtype=attended.dtype)
    return [attended, *torch.autograd.grad(attended, (tokens, table), direction)]


@pytest.mark.parametrize("there", [True, False])
def test_both_kinds_of_products_give_the_same(force, monkeypatch, there):
    grid = (5, 4)
    tokens, table = random_parts(1, 2, 8, grid, torch.float32)
    force(linear="product")
    expected = with_gradients(by_table(tokens, table, grid), tokens, table)
    force(linear="convolution")
    if not there:
        monkeypatch.setattr(table_attention, "onednn_product", None)
    assert_close(with_gradients(by_table(tokens, table, grid), tokens, table), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grid", [(16, choice.MATRIX_TOKENS // 16), (19, 27)])
def test_the_bias_of_a_table_is_the_same_on_both_sides_of_the_size_where_its_form_changes(force, grid):
    tokens, table = random_parts(1, 2, 4, grid)
    bias = build_grid_bias(table, grid, tokens)
    assert isinstance(bias, TableBias) == (grid[0] * grid[1] > choice.MATRIX_TOKENS)
    ours = attend(*tokens.permute(2, 0, 3, 1, 4), bias)
    expected = with_gradients(whole(tokens, table, grid), tokens, table)
    assert_close(with_gradients(ours, tokens, table), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", choice.FORMS["attention"])
def test_zeros_are_no_bias_where_nothing_is_trained(force, form):
    force(attention=form)
    table = torch.zeros(2, 5, 5, requires_grad=True)
    assert build_grid_bias(table, (3, 3), torch.zeros(1, 3, 3, 4)) is not None
    with torch.no_grad():
        assert build_grid_bias(table, (3, 3), torch.zeros(1, 3, 3, 4)) is None


def test_gradients_are_those_of_finite_differences():
    tokens, table = random_parts(1, 2, 3, (2, 3))
    assert torch.autograd.gradcheck(lambda *parts: by_table(*parts, (2, 3)), (tokens, table))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_other_precisions(dtype, tolerance):
    """The softmax is computed in float32 at least."""
    grid = (6, 5)
    tokens, table = random_parts(2, 2, 8, grid, dtype)
    exact = [part.detach().double().requires_grad_() for part in (tokens, table)]
    ours, expected = by_table(tokens, table, grid), whole(*exact, grid)
    assert ours.dtype == dtype
    assert_close(ours.double(), expected, rtol=tolerance, atol=tolerance)
    direction = torch.randn_like(ours)
    gradients = torch.autograd.grad(ours, (tokens, table), direction)
    assert [gradient.dtype for gradient in gradients] == [dtype, dtype]
    for gradient, of_exact in zip(gradients, torch.autograd.grad(expected, exact, direction.double()), strict=True):
        assert_close(gradient.double(), of_exact, rtol=3 * tolerance, atol=3 * tolerance * of_exact.abs().max().item())


def test_what_needs_no_gradient_gets_none():
    tokens, table = random_parts(1, 2, 4, (3, 3))
    table.requires_grad_(False)
    by_table(tokens, table, (3, 3)).sum().backward()
    assert table.grad is None and tokens.grad.isfinite().all()


def test_a_larger_bias_draws_attention():
    """The table's centre is the bias of a token towards itself; its last entry that of the last token to the first."""
    grid = (3, 4)
    tokens = torch.zeros(1, 12, 3, 1, 12)
    tokens[0, :, 2, 0] = torch.eye(12)  # the result is the attention
    for entry, (query, key) in {(2, 3): (5, 5), (4, 6): (11, 0), (3, 3): (6, 2), (2, 2): (4, 5)}.items():
        table = torch.zeros(1, 5, 7)
        table[0][entry] = 50.0
        assert by_table(tokens, table, grid)[0, 0, query, key] > 0.999
