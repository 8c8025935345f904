"""Maps that blocks have been placed on are kept for the backward pass, or placed again, to the same effect."""

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.testing import assert_close

from convmae_det.modeling.masked_convolution import VisibleBlocks
from convmae_det.ops import choice

GRID, SIDE = (4, 4), 2
INDICES = torch.tensor([[0, 5, 6], [3, 9, 15]])


def step() -> tuple[list[torch.Tensor], int]:
    """The result and gradients of a masked convolution, and the numbers that it keeps."""
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    blocks = torch.randn(2, 3, SIDE, SIDE, 8, requires_grad=True)
    kept = []

    def convolve(dense):
        return layer(dense.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def pack(tensor):
        kept.append(tensor.numel() if tensor.ndim == 4 and tensor.shape[-1] == GRID[1] * SIDE else 0)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = VisibleBlocks(INDICES, GRID).convolve(convolve, blocks)
    result.square().sum().backward()
    return [result.detach(), blocks.grad, layer.weight.grad, layer.bias.grad], sum(kept)


def test_both_forms_give_the_same_and_one_keeps_no_map(force):
    results = []
    for form in choice.FORMS["placed"]:
        force(placed=form)
        results.append(step())
    (kept, numbers), (again, fewer) = results
    assert_close(again, kept, rtol=0, atol=0)
    assert numbers == 2 * 64 * 8 and fewer == 0


def test_a_gpu_places_them_again(monkeypatch):
    monkeypatch.setattr(choice, "read_overrides", dict)
    assert choice.keeps_placed_maps(INDICES.device)
    with choice.simulate_gpu():
        assert not choice.keeps_placed_maps(INDICES.device)
