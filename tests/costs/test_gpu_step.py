"""Kernels, bytes moved and bytes kept of a step on a GPU are counted without one, and stay within their budget."""

import pytest
import torch
from detectron2.config import get_cfg
from torch import nn

from benchmarks.kernels import count_pretraining
from convmae_det.config.defaults import add_convmae_config
from convmae_det.costs.gpu_step import CASTS, Counts, KernelCounter, count_step
from convmae_det.modeling.backbone import ConvMAEBackbone

INDEX = torch.tensor([1, 1])


def test_a_step_is_what_can_be_counted_by_hand():
    counts = count_step(
        lambda: nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU()),
        lambda model: model(torch.empty(10, 8)).view(160).sum(),
    )
    tokens, weight, hidden = 10 * 8, 8 * 16, 10 * 16  # numbers
    assert counts.kept == 2 * tokens + 2 * hidden  # the tokens and what ReLU gives, in two bytes
    assert counts.kernels["matrix products"] == 2  # of the result, and of the weight's gradient
    assert counts.moved["matrix products"] == 2 * 2 * (tokens + weight + hidden)
    assert counts.kernels[CASTS] == 3 and counts.moved[CASTS] == 6 * (tokens + 2 * weight)


@pytest.mark.parametrize(
    ("run", "kernels", "moved"),
    [
        (lambda x: x.view(-1).expand(7, -1), 0, 0),
        (lambda x: x + x, 1, 3 * 40),
        (lambda x: x.view(-1).expand(7, -1) + 1, 1, 40 + 7 * 40),  # what is expanded is read once
        (lambda x: x.new_zeros(5), 1, 20),
        (lambda x: torch.empty_like(x).copy_(x), 1, 80),
        (lambda x: x[INDEX], 1, 2 * 40),
        (lambda x: torch._foreach_copy_([torch.empty_like(x, dtype=torch.bfloat16)], [x]), 1, 60),
    ],
)
def test_kernels_and_bytes_of_operations(run, kernels, moved):
    x, counts = torch.zeros(2, 5), Counts()
    with KernelCounter(counts):
        run(x)
    assert (counts.kernels.total(), counts.moved.total()) == (kernels, moved)


def test_a_pretraining_step_stays_within_its_budget():
    """The base network, 256 images of 224×224 pixels."""
    counts = count_pretraining("base", 256, 224)
    assert 800 < counts.kernels.total() <= 1000 and 80 < counts.kernels[CASTS] <= 100
    assert 100e9 < counts.moved.total() <= 140e9
    assert 8e9 < counts.kept <= 12e9


def count_backbone(relative_position: str) -> Counts:
    """A training step of the base model's backbone on two images of 1024×1024 pixels."""
    cfg = get_cfg()
    add_convmae_config(cfg)
    cfg.MODEL.CONVMAE.RELATIVE_POSITION = relative_position

    def run(backbone: nn.Module) -> torch.Tensor:
        return sum(maps.float().square().mean() for maps in backbone(torch.empty(2, 3, 1024, 1024)).values())

    return count_step(lambda: ConvMAEBackbone(cfg), run)


def test_biases_of_a_shared_table_pass_through_memory_seldom():
    """Beside the attention's own kernels, which read them and write their gradients."""
    shared, none = (count_backbone(kind).moved for kind in ("shared", "none"))
    beside = sum(shared[kind] - none[kind] for kind in shared if kind != "attention")
    assert 3e9 < beside <= 8e9
