"""What is made fast from outside stays what it is: of its class, found by whatever looks for it, copied and saved."""

import copy
import gc
import io
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.testing import assert_close

from convmae_det.modeling.blocks import TransformerBlock
from convmae_det.ops.layers import Form, accelerate
from convmae_det.ops.recomputation import recompute_activations


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.linear = nn.Linear(16, 5)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.linear(self.depthwise(maps).permute(0, 2, 3, 1))


@pytest.fixture(params=["fast", "plain"])
def network(force, request):
    if request.param == "fast":
        force(linear="convolution", depthwise="grouped")
    network = Network()
    accelerate(network)
    recompute_activations(network, Network)
    return network


MAPS = torch.linspace(-1, 1, 2 * 16 * 6 * 7).view(2, 16, 6, 7)


def test_classes_and_weights_stay(network):
    assert [type(layer) for layer in network.children()] == [nn.Conv2d, nn.Linear]
    assert list(network.state_dict()) == ["depthwise.weight", "depthwise.bias", "linear.weight", "linear.bias"]


def test_a_copy_runs_with_its_own_weights(network):
    twin, before = copy.deepcopy(network), network(MAPS)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not twin(MAPS).any()
    assert_close(network(MAPS), before)


def test_a_network_is_saved_and_loaded_whole_with_its_forms(network):
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert_close(loaded(MAPS), network(MAPS), rtol=1e-5, atol=1e-5)
    for module in loaded.modules():
        assert isinstance(module.forward, Form)
    with torch.no_grad():
        loaded.linear.weight.zero_()
    assert_close(loaded(MAPS), loaded.linear.bias.expand(2, 6, 7, 5))


def test_a_network_that_nobody_uses_is_gone_at_once():
    network = Network()
    accelerate(network)
    recompute_activations(network, Network)
    weight = weakref.ref(network.linear.weight)
    gc.disable()
    try:
        del network
        assert weight() is None
    finally:
        gc.enable()


def test_recomputed_modules_keep_nothing_but_their_input():
    """Not what an activation function is given, either."""
    kept = []

    def pack(tensor):
        kept.append(tensor.shape)
        return tensor

    block, tokens = TransformerBlock(8, 2, 4), torch.randn(2, 3, 3, 8)
    accelerate(block)
    recompute_activations(block, TransformerBlock)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(tokens)
    assert not [shape for shape in kept if shape[-1] == 32]
    before = {id(thing) for thing in gc.get_objects() if type(thing) is torch.Tensor}
    result = block(tokens)
    wide = [x for x in gc.get_objects() if type(x) is torch.Tensor and id(x) not in before and x.shape[-1:] == (32,)]
    assert not wide and result.requires_grad


def test_a_hook_on_an_activation_function_sees_each_pass_once():
    block, seen = TransformerBlock(8, 2, 4), []
    block.mlp.act.register_forward_hook(lambda *arguments: seen.append(1))
    block(torch.randn(1, 2, 2, 8, requires_grad=True)).sum().backward()
    assert seen == [1]


class Narrow(torch.Tensor):
    """Stands for the weights of libraries that quantise, which know of products alone."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        assert func is not torch.nn.functional.conv2d and func is not torch.Tensor.__getitem__
        return super().__torch_function__(func, types, args, kwargs or {})


def test_weights_of_other_types_are_multiplied(network):
    expected = network(MAPS)
    network.linear.weight = nn.Parameter(network.linear.weight.detach().as_subclass(Narrow))
    assert_close(network(MAPS).as_subclass(torch.Tensor), expected, rtol=1e-4, atol=1e-5)


def test_hooks_fire_in_training_and_in_inference(network):
    seen = []
    for layer in network.children():
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(layer))
    with torch.no_grad():
        network(MAPS)
    network(MAPS)
    assert seen == [network.depthwise, network.linear] * 2


def test_parametrised_weights_are_used(network):
    plain = network(MAPS) - network.linear.bias
    parametrize.register_parametrization(network.linear, "weight", Doubled())
    assert_close(network(MAPS) - network.linear.bias, 2 * plain, rtol=1e-4, atol=1e-5)


def test_weights_may_be_given_from_outside(network):
    zeros = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    assert not torch.func.functional_call(network, zeros, (MAPS,)).any()
    gradients = torch.func.grad(lambda weights: torch.func.functional_call(network, weights, (MAPS,)).sum())(
        dict(network.named_parameters())
    )
    expected = torch.autograd.grad(network(MAPS).sum(), list(network.parameters()))
    assert_close(list(gradients.values()), list(expected), rtol=1e-4, atol=1e-4)
