"""Folding, and patch embedding as the strided convolution that it replaces."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from convmae_det.modeling.embeddings import PatchEmbed, fold, unfold

sizes = st.sampled_from([1, 2, 4])


@settings(max_examples=25)
@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    h=st.integers(1, 3),
    w=st.integers(1, 3),
    size=sizes,
    c=st.integers(1, 3),
)
def test_fold_orders_row_column_channel_and_unfold_undoes_it(lead, h, w, size, c):
    tokens = torch.randn(*lead, h * size, w * size, c)
    patches = fold(tokens, size)
    assert patches.shape == (*lead, h, w, size * size * c)
    for y in range(h):
        for x in range(w):
            patch = tokens[..., y * size : (y + 1) * size, x * size : (x + 1) * size, :]
            assert torch.equal(patches[..., y, x, :], patch.flatten(-3))
    assert torch.equal(unfold(patches, size), tokens)


@settings(max_examples=15)
@given(in_dim=st.integers(1, 4), dim=st.integers(2, 5), h=st.integers(1, 3), w=st.integers(1, 3), size=sizes)
def test_patch_embedding_is_a_strided_convolution(in_dim, dim, h, w, size):
    embed = PatchEmbed(in_dim, dim, size)
    torch.nn.init.normal_(embed.norm.weight)
    torch.nn.init.normal_(embed.norm.bias)
    tokens = torch.randn(2, h * size, w * size, in_dim)
    kernel = embed.proj.weight.view(dim, size, size, in_dim).permute(0, 3, 1, 2)
    convolved = F.conv2d(tokens.permute(0, 3, 1, 2), kernel, embed.proj.bias, stride=size).permute(0, 2, 3, 1)
    expected = F.gelu(F.layer_norm(convolved, (dim,), embed.norm.weight, embed.norm.bias, 1e-5))
    assert_close(embed(tokens), expected, rtol=1e-4, atol=1e-5)


def test_a_block_cut_out_is_embedded_as_in_the_map():
    embed, tokens = PatchEmbed(3, 5, 2), torch.randn(1, 8, 8, 3)
    block = tokens[:, None, 4:8, 0:4]
    assert_close(embed(block)[:, 0], embed(tokens)[:, 2:4, 0:2])
