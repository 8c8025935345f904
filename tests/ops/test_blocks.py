"""Blocks taken from a map and put on it: adjoint, twice differentiable, the same under torch.func."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from convmae_det.ops.maps import find_other_places, find_places, list_all_places, mark_occupied, put_blocks, take_blocks

PLACES = find_places(torch.tensor([[0, 3], [1, 5]]), (2, 3))
DENSE = torch.linspace(-1, 1, 2 * 4 * 6 * 2, dtype=torch.float64).view(2, 4, 6, 2)
BLOCKS = take_blocks(DENSE, PLACES)
MOVES = {"take": (take_blocks, DENSE), "take from one map": (take_blocks, DENSE[:1]), "put": (put_blocks, BLOCKS)}


@pytest.mark.parametrize("name", MOVES)
def test_first_and_second_derivatives(name):
    move, tokens = MOVES[name]
    tokens = tokens.clone().requires_grad_()
    assert gradcheck(lambda x: move(x, PLACES).square(), tokens)
    assert gradgradcheck(lambda x: move(x, PLACES).pow(3), tokens)


@pytest.mark.parametrize("name", MOVES)
def test_function_transforms(name):
    move, tokens = MOVES[name]

    def loss(x):
        return move(x, PLACES).pow(3).sum()

    plain = tokens.clone().requires_grad_()
    assert_close(torch.func.grad(loss)(tokens), torch.autograd.grad(loss(plain), plain)[0])
    many = torch.stack([tokens, 2 * tokens])
    assert_close(torch.func.vmap(torch.func.grad(loss))(many), torch.stack([torch.func.grad(loss)(x) for x in many]))


def test_what_was_put_is_taken_and_the_rest_is_zero():
    placed = put_blocks(BLOCKS, PLACES)
    assert torch.equal(take_blocks(placed, PLACES), BLOCKS) and placed.count_nonzero() == BLOCKS.count_nonzero()


def test_listed_and_other_places_are_all_places():
    others = find_other_places(PLACES)
    assert torch.equal(mark_occupied(PLACES), ~mark_occupied(others))
    numbers = others.row * 3 + others.column
    assert numbers.tolist() == [[1, 2, 4, 5], [0, 2, 3, 4]]
    assert mark_occupied(list_all_places(2, (2, 3), torch.device("cpu"))).all()
