"""The fast forms of a network's own layers, given to it from outside."""

from torch import nn

from .depthwise import accelerate_depthwise_convolutions
from .linear import accelerate_linear_layers


def accelerate(module: nn.Module) -> None:
    """Lets linear layers and depthwise convolutions in the module run in the forms that choice.py chooses.

    These give the same. Classes, names, weights and hooks stay.
    """
    accelerate_linear_layers(module)
    accelerate_depthwise_convolutions(module)
