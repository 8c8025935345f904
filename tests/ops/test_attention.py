"""What is added to the logits of attention: biases in its precision, and masks that are finite and forbid."""

import contextlib

import pytest
import torch
from reference.small import detector_cfg
from torch.testing import assert_close

from convmae_det.costs.gpu_step import count_step
from convmae_det.modeling.backbone import ConvMAEBackbone
from convmae_det.ops import attention, choice
from convmae_det.ops.attention import (
    MatrixBias,
    attend,
    attend_by_axes,
    build_grid_bias,
    build_matrix_bias,
    look_up,
    mask_bias,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_mask_is_finite_and_lets_nothing_through(dtype):
    """Even beside the largest of biases, whose sign is the mask's."""
    tokens = torch.randn(1, 2, 4, 3).to(dtype)
    mask = torch.tensor([[True, True, False, False], [True, True, False, False]] + [[False, False, True, True]] * 2)
    for scale in (0.0, 100.0, -100.0):
        bias = mask_bias(torch.full((1, 1, 4, 4), scale, dtype=dtype), mask[None], tokens)
        assert bias.isfinite().all()
        weights = (torch.zeros(4, 4) + bias.float()[0, 0]).softmax(-1)
        assert not weights[~mask].any() and (weights[mask] > 0).all()


def test_without_mask_or_bias():
    tokens, bias = torch.randn(2, 2, 2, 3), torch.randn(1, 2, 4, 4)
    assert mask_bias(bias, None, tokens) is bias and mask_bias(None, None, tokens) is None
    masked = mask_bias(None, torch.ones(1, 4, 4, dtype=torch.bool), tokens)
    query = torch.randn(2, 1, 4, 3)
    assert_close(attend(query, query, query, masked), attend(query, query, query))


def test_biases_are_of_the_precision_of_the_attention():
    table, tokens = torch.randn(2, 3, 5), torch.randn(1, 2, 3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert build_matrix_bias(table, (2, 3), tokens).dtype == torch.bfloat16
    assert build_matrix_bias(table, (2, 3), tokens.double()).dtype == torch.float64


@pytest.mark.parametrize("form", choice.FORMS["decomposed"])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 4)])
def test_terms_of_rows_and_columns_are_a_bias(force, form, grid):
    """Exactly, in float64, with its gradients."""
    force(decomposed=form)
    (h, w), shape = grid, (2, 3, grid[0] * grid[1])
    parts = [torch.randn(*shape, c, dtype=torch.float64, requires_grad=True) for c in (4, 4, 4, h, w)]
    query, key, value, rows, columns = parts
    bias = (rows[..., :, None] + columns[..., None, :]).flatten(-2)
    expected = ((query @ key.transpose(-1, -2)) / 2 + bias).softmax(-1) @ value
    found, direction = attend_by_axes(*parts), torch.randn_like(expected)
    assert_close(found, expected, rtol=0, atol=1e-14)
    of_ours, of_theirs = (torch.autograd.grad(result, parts, direction) for result in (found, expected))
    assert_close(of_ours, of_theirs, rtol=0, atol=1e-13)


def count_pads(blocks: int, relative_position: str) -> int:
    """Those of a training step of the backbone on a GPU, whose stage 3 has so many blocks."""
    cfg = detector_cfg("MODEL.CONVMAE.DEPTHS", [1, 1, blocks], "MODEL.CONVMAE.GLOBAL_BLOCKS", [0])
    cfg.MODEL.CONVMAE.RELATIVE_POSITION = relative_position

    def run(model):
        return model(torch.empty(2, 3, 64, 64))["e3"].float().sum()

    return count_step(lambda: ConvMAEBackbone(cfg), run).operations["constant_pad_nd"]


@pytest.mark.parametrize("relative_position", ["shared", "none"])
def test_rows_of_biases_are_padded_once_a_pass_not_in_each_block(relative_position):
    """Windows of 3×3 tokens, 9 keys. A block pads its tokens to whole windows, and its gradient to the map's."""
    few, many = (count_pads(blocks, relative_position) for blocks in (5, 9))
    assert many - few == 4 * 2


def test_rows_that_need_none_are_not_copied(monkeypatch):
    monkeypatch.setattr(choice, "choose_bias_alignment", lambda device: 8)
    bias = torch.zeros(1, 2, 16, 16)
    assert attention._align(bias) is bias


@pytest.mark.parametrize("columns", [1, 8])
def test_rows_of_biases_are_aligned(monkeypatch, columns):
    monkeypatch.setattr(choice, "choose_bias_alignment", lambda device: columns)
    tokens, table = torch.randn(2, 3, 3, 4), torch.randn(2, 5, 5, requires_grad=True)
    bias = build_matrix_bias(table, (3, 3), tokens)
    masked = mask_bias(bias, torch.eye(9, dtype=torch.bool)[None], tokens)
    for found in (bias, masked):
        assert found.shape[-2:] == (9, 9) and found.stride(-2) % columns == 0
    expected = look_up(table, (3, 3))
    assert_close(bias[0], expected)
    weight = torch.randn_like(expected)
    of_ours, of_theirs = (torch.autograd.grad((x * weight).sum(), table)[0] for x in (bias, expected))
    assert_close(of_ours, of_theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (12, 9)])
def test_gradients_of_narrow_biases_are_added_up_in_the_table_s_precision(dtype, grid):
    """They are the exact sums of what arrives, which in few bits would be lost in one another."""
    length = grid[0] * grid[1]
    table = torch.randn(2, 2 * grid[0] - 1, 2 * grid[1] - 1, requires_grad=True)
    bias = matrix_bias_of(table, grid, dtype)
    assert bias.dtype == dtype and torch.equal(bias[0], look_up(table, grid).to(dtype))
    direction = torch.randn(1, 2, length, length).to(dtype)
    found = torch.autograd.grad(bias, table, direction)[0]
    expected = torch.autograd.grad(look_up(table, grid), table, direction[0].float())[0]
    assert found.dtype == torch.float32
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


def matrix_bias_of(table, grid, dtype):
    return build_matrix_bias(table, grid, torch.zeros(1, *grid, 4, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grid", [(1, 1), (2, 5), (7, 3)])
def test_a_matrix_of_biases_shared_by_blocks_and_images_is_the_table(dtype, grid):
    """As on a GPU: the same attention as with biases that each block looks up, and the same gradients."""
    length, tables = grid[0] * grid[1], []
    tokens = torch.zeros(3, *grid, 4, dtype=dtype)
    values = [torch.randn(3, 2, length, 4).to(dtype) for _ in range(6)]
    results = []
    for shared in (True, False):
        torch.manual_seed(0)
        table = torch.randn(2, 2 * grid[0] - 1, 2 * grid[1] - 1, requires_grad=True)
        with choice.simulate_gpu() if shared else contextlib.nullcontext():
            bias = build_grid_bias(table, grid, tokens) if shared else build_matrix_bias(table, grid, tokens)
            assert isinstance(bias, MatrixBias) == shared
            attended = attend(*values[:3], bias) + attend(*values[3:], bias)
        attended.float().square().sum().backward()
        results.append(attended)
        tables.append(table.grad)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    assert_close(*results)
    assert_close(*tables, rtol=tolerance, atol=tolerance)
