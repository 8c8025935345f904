"""Which blocks are visible, and how layouts take them out of a map and put them back."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from convmae_det.errors import InputError
from convmae_det.modeling.masked_convolution import Dense, ScatteredPatches, VisibleBlocks, VisibleTokens
from convmae_det.modeling.masking import draw_complementary, draw_visible
from convmae_det.ops.maps import find_places, mark_occupied


@st.composite
def layouts(draw):
    """(layout, grid, images) with at least one visible block."""
    n, h, w = (draw(st.integers(1, 4)) for _ in range(3))
    visible = draw(st.integers(1, h * w))
    return VisibleBlocks(torch.rand(n, h * w).argsort(1)[:, :visible].sort(1).values, (h, w)), (h, w), n


@settings(max_examples=25)
@given(n=st.integers(1, 3), length=st.integers(2, 60), ratio=st.floats(0.05, 0.95))
def test_the_lowest_noise_stays_visible_in_raster_order(n, length, ratio):
    count = int(length * (1 - ratio))
    assume(0 < count < length)
    noise = torch.rand(n, length)
    indices = draw_visible(noise, ratio)
    assert indices.shape == (n, count)
    assert (indices.diff(dim=1) > 0).all()
    visible = mark_occupied(find_places(indices, (1, length)))
    assert (visible.sum(1) == count).all()
    for row, seen in zip(noise, visible, strict=True):
        assert row[seen].max() <= row[~seen].min()


@pytest.mark.parametrize("length, ratio", [(4, 0.9), (16, 0.0), (16, 1.0), (1, 0.5), (16, 1.5)])
def test_a_ratio_that_hides_nothing_or_everything_is_refused(length, ratio):
    with pytest.raises(InputError, match="MODEL.MAE.MASK_RATIO"):
        draw_visible(torch.rand(2, length), ratio)


@settings(max_examples=25)
@given(n=st.integers(1, 3), groups=st.integers(2, 6), count=st.integers(1, 8))
def test_complementary_sets_are_a_partition_of_each_image(n, groups, count):
    noise = torch.rand(n, groups * count)
    indices = draw_complementary(noise, 1 - 1 / groups)
    assert indices.shape == (n * groups, count)
    assert (indices.diff(dim=1) > 0).all()
    of_image = indices.view(n, -1).sort(1).values
    assert torch.equal(of_image, torch.arange(groups * count).expand(n, -1))


def test_the_first_complementary_set_is_the_one_drawn_alone():
    noise = torch.rand(2, 16)
    assert torch.equal(draw_complementary(noise, 0.75)[::4], draw_visible(noise, 0.75))


@pytest.mark.parametrize("length, ratio", [(16, 0.7), (15, 0.75), (16, 1.0), (16, 0.0), (16, 0.4)])
def test_a_ratio_that_gives_no_equal_sets_is_refused(length, ratio):
    with pytest.raises(InputError, match="MODEL.MAE.COMPLEMENTARY_MASKS.*MASK_RATIO"):
        draw_complementary(torch.rand(2, length), ratio)


@settings(max_examples=25)
@given(layouts(), st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_place_and_select_are_inverse_on_visible_blocks(drawn, s, c):
    layout, (h, w), n = drawn
    blocks = torch.randn(n, layout.places.row.shape[1], s, s, c)
    placed = layout.place(blocks)
    assert placed.shape == (n, h * s, w * s, c)
    assert torch.equal(layout.select(placed), blocks)
    assert (placed != 0).sum() == (blocks != 0).sum()  # zero everywhere else


@settings(max_examples=15)
@given(layouts(), st.sampled_from([1, 2]))
def test_select_takes_the_blocks_that_the_indices_name(drawn, s):
    layout, (h, w), n = drawn
    dense = torch.randn(n, h * s, w * s, 2)
    blocks = layout.select(dense)
    for image in range(n):
        rows, columns = (axis[image].tolist() for axis in (layout.places.row, layout.places.column))
        for k, (y, x) in enumerate(zip(rows, columns, strict=True)):
            assert torch.equal(blocks[image, k], dense[image, y * s : (y + 1) * s, x * s : (x + 1) * s])


@settings(max_examples=25)
@given(layouts(), st.sampled_from([1, 2, 4]))
def test_place_and_select_are_adjoint(drawn, s):
    layout, (h, w), n = drawn
    blocks = torch.randn(n, layout.places.row.shape[1], s, s, 2, dtype=torch.float64)
    dense = torch.randn(n, h * s, w * s, 2, dtype=torch.float64)
    assert torch.allclose((layout.place(blocks) * dense).sum(), (blocks * layout.select(dense)).sum())


@pytest.mark.parametrize("images", [1, 3])
def test_gradients_of_place_and_select(images):
    """`images` 1: a map that all images share, such as the position embedding."""
    layout = VisibleBlocks(torch.tensor([[0, 3], [1, 5], [2, 3]]), (2, 3))
    dense = torch.randn(images, 4, 6, 2, dtype=torch.float64, requires_grad=True)
    blocks = torch.randn(3, 2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(layout.select, dense)
    assert gradcheck(layout.place, blocks)


def test_a_shared_map_is_selected_as_if_it_were_repeated():
    layout = VisibleBlocks(torch.tensor([[0, 3], [1, 5]]), (2, 3))
    shared = torch.randn(1, 2, 3, 4)
    assert torch.equal(layout.select(shared), layout.select(shared.expand(2, -1, -1, -1)))


def test_select_takes_maps_of_any_memory_format():
    layout = VisibleBlocks(torch.tensor([[0, 3], [1, 5]]), (2, 3))
    dense = torch.randn(2, 4, 6, 3)
    other = dense.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert not other.is_contiguous()
    assert torch.equal(layout.select(other), layout.select(dense))


def test_the_convolution_sees_zeros_at_hidden_blocks_and_gives_back_the_visible_ones():
    layout, seen = VisibleBlocks(torch.tensor([[1, 2]]), (2, 2)), []

    def convolution(dense):
        seen.append(dense)
        return dense + 1

    blocks = torch.randn(1, 2, 2, 2, 3)
    assert torch.equal(layout.convolve(convolution, blocks), blocks + 1)
    assert not seen[0][:, :2, :2].any() and not seen[0][:, 2:, 2:].any()
    assert torch.equal(seen[0][:, :2, 2:], blocks[:, 0])


def test_the_dense_layout_leaves_everything_as_it_is():
    layout, tokens = Dense(), torch.randn(1, 4, 4, 2)
    assert all(method(tokens) is tokens for method in (layout.enter, layout.leave, layout.select))
    assert torch.equal(layout.convolve(torch.neg, tokens), -tokens)


def test_the_unmasked_convolution_drops_tokens_only_before_stage_3():
    indices = torch.tensor([[1, 2]])
    layout, tokens = VisibleTokens(indices, (2, 2)), torch.randn(1, 4, 4, 3)
    assert layout.enter(tokens) is tokens
    assert torch.equal(layout.convolve(torch.neg, tokens), -tokens)
    assert torch.equal(layout.leave(tokens), VisibleBlocks(indices, (2, 2)).select(tokens))


def test_scattered_patches_hide_pixels_and_tokens():
    visible = torch.zeros(1, 4, 4, dtype=torch.bool)
    visible[0, 0, 0] = visible[0, 3, 2] = True
    layout = ScatteredPatches(visible)

    pixels = layout.visible_at(16, 16)
    assert pixels.shape == (1, 16, 16, 1) and pixels.sum() == 2 * 16
    assert pixels[0, :4, :4].all() and pixels[0, 12:, 8:12].all()
    assert torch.equal(layout.visible_at(4, 4)[..., 0], visible)
    half = layout.visible_at(2, 2)[0, ..., 0]
    assert half.tolist() == [[True, False], [False, True]]  # visible where any part is

    images = torch.randn(1, 16, 16, 3)
    assert torch.equal(layout.enter(images), images * pixels)
    tokens = torch.randn(1, 4, 4, 2)
    assert torch.equal(layout.convolve(torch.neg, tokens), -tokens * visible[..., None])
    assert layout.leave(tokens) is tokens and layout.select(tokens) is tokens
