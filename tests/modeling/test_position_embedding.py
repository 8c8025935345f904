"""Sin-cos position embeddings and their resizing."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from benchmarks import published as plain
from convmae_det.modeling.embeddings import PositionEmbedding, build_sincos_table, resize_embedding

grids = st.tuples(st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=15)
@given(grid=grids, quarter=st.integers(1, 6))
def test_sincos_equals_the_loop_over_tokens(grid, quarter):
    assert_close(build_sincos_table(4 * quarter, grid).flatten(1, 2), plain.build_sincos_table(4 * quarter, grid))


def test_sincos_tells_all_positions_apart():
    table = build_sincos_table(16, (7, 5)).flatten(1, 2)[0]
    assert torch.cdist(table, table).add(torch.eye(35)).min() > 1e-2


@settings(max_examples=15)
@given(trained=grids, grid=grids)
def test_resize_is_bicubic_over_the_map(trained, grid):
    table = torch.randn(1, *trained, 3)
    resized = resize_embedding(table, grid)
    assert resized.shape == (1, *grid, 3)
    for channel in range(3):
        expected = F.interpolate(table[None, ..., channel], size=grid, mode="bicubic", align_corners=False)
        assert_close(resized[None, ..., channel], expected)


def test_its_own_grid_is_not_touched():
    table = torch.randn(1, 3, 4, 2)
    assert (
        torch.equal(resize_embedding(table, (3, 4)), table)
        and resize_embedding(table, (3, 4)).data_ptr() == table.data_ptr()
    )


def test_a_learned_table_is_a_parameter_and_a_fixed_one_is_saved_all_the_same():
    learned, fixed = PositionEmbedding(8, (3, 4), learned=True), PositionEmbedding(8, (3, 4), learned=False)
    assert [name for name, _ in learned.named_parameters()] == ["table"]
    assert not list(fixed.parameters())
    assert torch.equal(fixed.state_dict()["table"], learned.state_dict()["table"])


def test_a_fixed_table_takes_the_grid_that_is_loaded():
    saved, other = PositionEmbedding(8, (2, 3), learned=False), PositionEmbedding(8, (4, 4), learned=False)
    saved.table.normal_()
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other((2, 3)), saved.table)


@pytest.mark.parametrize(
    "learned, shape", [(True, (1, 2, 3, 8)), (True, (1, 6, 8)), (False, (1, 6, 8)), (False, (1, 2, 3, 4))]
)
def test_a_table_that_does_not_fit_is_refused(learned, shape):
    with pytest.raises(RuntimeError, match="table"):
        PositionEmbedding(8, (4, 4), learned).load_state_dict({"table": torch.zeros(shape)})
