"""The MLP against torch's own layers."""

import torch
from torch import nn

from convmae_det.modeling.mlp import Mlp


def test_equals_torchs_layers():
    mlp, tokens = Mlp(4, 8), torch.randn(2, 3, 4)
    plain = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
    plain.load_state_dict(dict(zip(plain.state_dict(), mlp.state_dict().values(), strict=True)))
    torch.testing.assert_close(mlp(tokens), plain(tokens))


def test_names_and_shapes_are_those_of_nn_linear():
    assert {name: tuple(p.shape) for name, p in Mlp(4, 8).named_parameters()} == {
        "fc1.weight": (8, 4),
        "fc1.bias": (8,),
        "fc2.weight": (4, 8),
        "fc2.bias": (4,),
    }
