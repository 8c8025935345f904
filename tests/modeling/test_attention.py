"""Fused attention against the materialised form, and windows against a computation on the unpadded map."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.small import assert_near, gradients, randomise
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import published as plain
from convmae_det.modeling.attention import Attention, Window, build_padding_mask
from convmae_det.modeling.blocks import TransformerBlock
from convmae_det.modeling.embeddings import PositionEmbedding
from convmae_det.modeling.encoder import TransformerStage
from convmae_det.modeling.masked_convolution import Dense
from convmae_det.ops.attention import TableBias

grids = st.tuples(st.integers(1, 8), st.integers(1, 8))
windows = st.integers(1, 5).flatmap(lambda size: st.builds(Window, st.just(size), st.integers(0, size - 1)))


def window_of_each_token(window: Window, grid: tuple[int, int]) -> torch.Tensor:
    """(L,) a number for the window that a token lies in: borders are at shift + multiples of size."""
    row, column = (torch.div(torch.arange(n) - window.shift, window.size, rounding_mode="floor") for n in grid)
    return (row[:, None] * 1000 + column[None, :]).flatten()


def outside_window(window: Window, grid: tuple[int, int]) -> torch.Tensor:
    """(L, L) -inf where query and key lie in different windows, 0 elsewhere."""
    number = window_of_each_token(window, grid)
    return torch.zeros(len(number), len(number)).masked_fill(number[:, None] != number[None, :], float("-inf"))


def bias_by_displacement(table: torch.Tensor, grid: tuple[int, int], size: int) -> torch.Tensor:
    """(heads, L, L) from a table (heads, 2·size−1, 2·size−1); zero where no window spans the displacement."""
    y, x = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    known = (dy.abs() < size) & (dx.abs() < size)
    return table[:, dy.clamp(1 - size, size - 1) + size - 1, dx.clamp(1 - size, size - 1) + size - 1] * known


def stage_of(windows, relative_position="shared", grid=(4, 4), dim=8, heads=2) -> TransformerStage:
    position = PositionEmbedding(dim, grid, learned=True)
    depth = len(windows)
    return randomise(TransformerStage(4, dim, heads, 2, [0.0] * depth, position, windows, relative_position, grid))


@settings(max_examples=10)
@given(grid=grids, seed=st.integers(0, 99))
def test_a_table_of_each_block_is_a_shared_one_where_all_are_the_same(grid, seed):
    """The gradient of the shared table is the sum of theirs."""
    windows = [None, Window(3), Window(3, 1), None]
    torch.manual_seed(seed)
    tokens, noise = torch.randn(2, 2 * grid[0], 2 * grid[1], 4), torch.randn(2, *grid, 8)
    shared, own = stage_of(windows).double(), stage_of(windows, "blocks").double()
    state = {name: tensor for name, tensor in shared.state_dict().items() if "_bias." not in name}
    tables = (shared.local_bias if window else shared.global_bias for window in windows)
    state |= {f"block_biases.{index}.table": bias.table for index, bias in enumerate(tables)}
    own.load_state_dict(state)
    results = []
    for stage in (shared, own):
        result = stage(tokens.double(), Dense(), grid)
        (result * noise).sum().backward()
        results.append({"result": result} | gradients(stage))
    for name, index in (("global_bias", (0, 3)), ("local_bias", (1, 2))):
        results[1][f"{name}.table"] = sum(results[1].pop(f"block_biases.{i}.table") for i in index)
    assert_near(results[1], results[0], 1e-8)


@settings(max_examples=15)
@given(
    heads=st.integers(1, 4),
    width=st.integers(1, 6),
    length=st.integers(1, 12),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_fused_equals_materialised_attention(heads, width, length, biased, seed):
    ours = randomise(Attention(heads * width, heads), seed).double()
    theirs = plain.Attention(heads * width, heads).double()
    theirs.load_state_dict(ours.state_dict())
    results = []
    for attention in (ours, theirs):
        torch.manual_seed(seed)
        tokens = torch.randn(2, length, heads * width, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(1, heads, length, length, dtype=torch.float64, requires_grad=True)
        attended = attention(tokens, bias if biased else None)
        (attended * torch.randn_like(attended)).sum().backward()
        results.append({"attended": attended, "tokens": tokens.grad} | gradients(attention))
        if biased:
            results[-1]["bias"] = bias.grad
    assert_near(results[0], results[1], 1e-8)


@settings(max_examples=25)
@given(grid=grids, window=windows, seed=st.integers(0, 99))
def test_padding_of_windows_changes_no_real_token(grid, window, seed):
    """Two images, with the shared bias; against attention over the whole unpadded map, masked to the windows."""
    stage = stage_of([window]).double()
    block, table = stage.blocks[0], stage.local_bias.table
    reference = plain.Block(8, 2, 2).double()
    reference.load_state_dict(block.state_dict())
    torch.manual_seed(seed)
    tokens = torch.randn(2, *grid, 8, dtype=torch.float64, requires_grad=True)
    noise = torch.randn_like(tokens)

    bias = stage.build_attention_biases(tokens, grid)[window]
    ours = block(tokens, bias)
    logits = outside_window(window, grid) + bias_by_displacement(table, grid, window.size)
    theirs = reference(tokens.flatten(1, 2), lambda x: reference.attn(x, logits)).view(ours.shape)
    assert_near(ours, theirs, 1e-8)
    of_ours = torch.autograd.grad((ours * noise).sum(), (tokens, table))
    of_theirs = torch.autograd.grad((theirs * noise).sum(), (tokens, table))
    assert_near(of_ours[0], of_theirs[0], 1e-8)
    assert_near(of_ours[1], of_theirs[1], 1e-8)


@settings(max_examples=20)
@given(grid=grids, window=windows, data=st.data())
def test_the_receptive_field_is_the_window(grid, window, data):
    stage = stage_of([window])
    token = data.draw(st.integers(0, grid[0] * grid[1] - 1))
    tokens = torch.randn(1, *grid, 8, requires_grad=True)
    bias = stage.build_attention_biases(tokens, grid)[window]
    stage.blocks[0](tokens, bias).flatten(1, 2)[0, token].square().sum().backward()
    reached = tokens.grad.flatten(1, 2)[0].abs().sum(-1) > 0
    number = window_of_each_token(window, grid)
    assert torch.equal(reached, number == number[token])


@settings(max_examples=25)
@given(grid=grids, window=windows, n=st.integers(1, 3))
def test_split_and_join_are_inverse(grid, window, n):
    tokens = torch.randn(n, *grid, 3)
    split = window.split(tokens)
    assert split.shape[1:] == (window.size**2, 3) and split.shape[0] % n == 0
    assert torch.equal(window.join(split, n, grid), tokens)
    padding = split.numel() - tokens.numel()
    assert (split == 0).sum() == padding  # each token once, the rest zero


@settings(max_examples=25)
@given(grid=grids, window=windows)
def test_padding_mask_parts_real_tokens_from_padding(grid, window):
    mask = build_padding_mask(window, grid)
    real = window.split(torch.ones(1, *grid, 1))[..., 0] > 0
    if mask is None:
        assert real.all()
        return
    assert not real.all()
    assert mask.any(-1).all()  # no empty row in the softmax
    for allowed, is_real in zip(mask, real, strict=True):
        assert (allowed[is_real] == is_real).all() and (allowed[~is_real] == ~is_real).all()


def test_no_mask_is_built_where_nothing_is_padded():
    stage = stage_of([Window(4), None], relative_position="none")
    assert stage.build_attention_biases(torch.zeros(2, 8, 4, 8), (8, 4)) == {Window(4): None, None: None}


@settings(max_examples=10)
@given(grid=grids, window=windows)
def test_decomposed_attention_looks_at_padding_as_vitdet_does(grid, window):
    """The second published code pads with zeros and doesn't mask; its weights are trained with that."""
    assume(any(window.padding(grid)))
    stage = stage_of([window], "decomposed")
    assert stage.build_attention_biases(torch.zeros(1, *grid, 8), grid) == {window: None}


def test_global_attention_takes_tokens_in_any_arrangement():
    block = randomise(TransformerBlock(8, 2, 2))
    tokens = torch.randn(2, 6, 8)
    expected = block(tokens)
    for shape in [(2, 3, 2, 8), (2, 6, 1, 1, 8), (2, 1, 6, 8)]:
        assert torch.equal(block(tokens.view(shape)), expected.view(shape))


def test_block_equals_the_plain_block():
    block = randomise(TransformerBlock(12, 3, 4))
    reference = plain.Block(12, 3, 4)
    reference.load_state_dict(block.state_dict())
    tokens = torch.randn(2, 9, 12)
    assert_near(block(tokens), reference(tokens), 1e-5)


@pytest.mark.parametrize("window", [None, Window(3), Window(3, 1)])
@pytest.mark.parametrize("relative_position", ["shared", "decomposed", "none"])
def test_bfloat16_autocast(window, relative_position):
    stage, tokens = stage_of([window], relative_position), torch.randn(2, 4, 5, 8)

    def run():
        return stage.blocks[0](tokens, stage.build_attention_biases(tokens, (4, 5))[window])

    exact = run()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run()
        bias = stage.build_attention_biases(tokens, (4, 5))[window]
    assert bias is None or isinstance(bias, TableBias) or bias.dtype == torch.bfloat16
    assert_close(rounded.float(), exact, rtol=0.1, atol=0.1)
    rounded.float().square().sum().backward()
    assert all(gradient.isfinite().all() for gradient in gradients(stage).values())


class LargestResult(TorchDispatchMode):
    """Of all that operations give while it is active: the number of elements of the largest tensor."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = (leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        self.elements = max(self.elements, *sizes, 0)
        return result


@pytest.mark.parametrize("training", [False, True])
def test_a_global_block_makes_no_matrix_for_all_heads(training):
    heads, grid = 4, (24, 24)
    stage, tokens = stage_of([None], grid=grid, heads=heads), torch.randn(1, *grid, 8)
    with torch.set_grad_enabled(training):
        bias = stage.build_attention_biases(tokens, grid)[None]
        with LargestResult() as largest:
            result = stage.blocks[0](tokens, bias)
            if training:
                result.sum().backward()
    assert largest.elements < heads * (24 * 24) ** 2


def test_while_traced_global_attention_takes_a_whole_bias():
    """A trace holds no functions with their own backward, and serves all grids."""
    stage, tokens = stage_of([None]).requires_grad_(False), torch.randn(1, 4, 5, 8)
    with torch.no_grad():
        traced = torch.jit.trace(
            lambda x: stage.build_attention_biases(x, (4, 5))[None] + x.sum(), tokens, check_trace=False
        )
        assert traced(tokens).shape == (1, 2, 20, 20)
