"""Operations are those of a count by hand, whichever of torch's kernels runs; nothing is left out in silence."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from convmae_det.costs.operations import REST, OperationCounter, count_operations


def count(function, *args, **options) -> int:
    with torch.no_grad(), OperationCounter() as counter:
        function(*args, **options)
    return counter.operations.total()


def named(name: str):
    """What stands for an operation that this torch or this machine may not have."""
    return SimpleNamespace(overloadpacket=SimpleNamespace(__name__=name))


def random(*shapes):
    return [torch.randn(shape) for shape in shapes]


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (torch.mm, [(3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (torch.matmul, [(2, 3, 4), (4, 5)], 2 * 2 * 3 * 4 * 5),
        (torch.matmul, [(2, 7, 3, 4), (2, 7, 4, 5)], 2 * 2 * 7 * 3 * 4 * 5),
        (torch.mv, [(3, 4), (4,)], 2 * 3 * 4),
        (torch.dot, [(4,), (4,)], 2 * 4),
        (torch.addmm, [(5,), (3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 2 * 3 * 4 * 5),
        (F.linear, [(2, 3, 4), (5, 4)], 2 * 6 * 4 * 5),
        (F.linear, [(2, 3, 4), (5, 4), (5,)], 2 * 6 * 4 * 5),
        (lambda a, b: torch.einsum("bnhwd,hkd->bnhwk", a, b), [(1, 2, 3, 4, 5), (3, 6, 5)], 2 * 2 * 3 * 4 * 5 * 6),
    ],
)
def test_matrix_products(function, shapes, expected):
    assert count(function, *random(*shapes)) == expected


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 5, 7), 2 * (2 * 6 * 5 * 7) * 4 * 9),
        (nn.Conv2d(4, 6, 2, stride=2, bias=False), (1, 4, 6, 8), 2 * (6 * 3 * 4) * 4 * 4),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (1, 4, 5, 5), 2 * (6 * 25) * 2 * 9),
        (nn.Conv2d(6, 6, 5, padding=2, groups=6), (1, 6, 5, 5), 2 * (6 * 25) * 25),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 3, 3), 2 * (4 * 9) * 6 * 4),
        (nn.Conv1d(4, 6, 3), (1, 4, 8), 2 * (6 * 6) * 4 * 3),
    ],
)
def test_convolutions(layer, shape, expected):
    assert count(layer, torch.randn(shape)) == expected


QUERY, KEY, VALUE = (2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 8)
ATTENTION = 2 * (2 * 3) * 5 * 7 * (4 + 8)


@pytest.mark.parametrize("mask", [None, (5, 7), (2, 1, 5, 7)])
@pytest.mark.parametrize("kernels", [list(SDPBackend.__members__.values()), [SDPBackend.MATH]])
@pytest.mark.parametrize("value", [VALUE, KEY])
def test_attention_on_this_machine(mask, kernels, value):
    query, key, value = random(QUERY, KEY, value)
    mask = None if mask is None else torch.zeros(mask)
    with sdpa_kernel([kernel for kernel in kernels if kernel != SDPBackend.ERROR]):
        counted = count(F.scaled_dot_product_attention, query, key, value, attn_mask=mask)
    assert counted == 2 * (2 * 3) * 5 * 7 * (4 + value.shape[-1])


def test_attention_in_more_dimensions():
    query, key, value = (tensor[:, None] for tensor in random(QUERY, KEY, VALUE))
    assert count(F.scaled_dot_product_attention, query, key, value) == ATTENTION


@pytest.mark.parametrize(
    "name",
    [
        "scaled_dot_product_attention",
        "_scaled_dot_product_attention_math",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    ],
)
def test_attention_of_every_kernel(name):
    query, key, value = random(QUERY, KEY, VALUE)
    result = torch.empty(2, 3, 5, 8)
    assert count_operations(named(name), (result, torch.empty(2, 3, 5)), (query, key, value, None, True)) == ATTENTION
    with pytest.raises(NotImplementedError):
        count_operations(named(f"{name}_backward"), (result,), (result, query, key, value))


@pytest.mark.parametrize("name", ["_linear_pointwise", "_mkl_linear", "linear"])
def test_linear_layers_of_every_library(name):
    assert (
        count_operations(named(name), torch.empty(2, 3, 5), (torch.empty(2, 3, 4), torch.empty(5, 4))) == 2 * 6 * 4 * 5
    )


@pytest.mark.parametrize(
    "name",
    ["_int_mm", "_scaled_mm", "_addmm_activation", "addbmm", "addr", "conv2d_relu", "mkldnn_convolution", "bilinear",
     "_convolution_pointwise", "convolution_backward", "_flash_attention_forward", "_native_multi_head_attention",
     "_cdist_forward", "lstm", "_grouped_mm", "linalg_matmul", "einsum"],
)  # fmt: skip
def test_other_products_are_refused(name):
    with pytest.raises(NotImplementedError, match="no formula"):
        count_operations(named(name), torch.empty(1), (torch.empty(1), torch.empty(1)))


def test_a_product_that_cannot_be_counted_ends_the_count():
    with pytest.raises(NotImplementedError, match="_cdist_forward"):
        count(torch.cdist, *random((3, 4), (5, 4)))


def test_what_is_no_product_counts_nothing():
    maps = torch.randn(1, 4, 8, 8)

    def run():
        for mode in ("nearest", "bilinear", "bicubic"):
            F.interpolate(maps, scale_factor=2, mode=mode)
        F.interpolate(maps[0], size=5, mode="linear")
        F.group_norm(F.layer_norm(F.gelu(maps), (8,)), 2).softmax(-1).sum()
        F.max_pool2d(maps, 2) + F.avg_pool2d(maps, 2) * F.grid_sample(
            maps, torch.zeros(1, 4, 4, 2), align_corners=False
        )
        F.pad(maps, (1, 1)).unfold(2, 2, 1).flip(0).to(torch.float64).argsort()

    assert count(run) == 0


def test_operations_belong_to_the_innermost_part():
    inner, outer = nn.Linear(4, 5), nn.Linear(5, 6)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.layer = inner, outer

        def forward(self, tokens):
            return self.layer(self.inner(tokens)) @ torch.ones(6, 7)

    model = nn.Sequential(Outer(), nn.Linear(7, 8))
    with torch.no_grad(), OperationCounter([("inner", inner), ("outer", model[0])]) as counter:
        model(torch.randn(3, 4))
    assert counter.operations == {"inner": 2 * 3 * 4 * 5, "outer": 2 * 3 * (5 * 6 + 6 * 7), REST: 2 * 3 * 7 * 8}
    before = counter.operations.total()
    model(torch.randn(3, 4))
    assert counter.operations.total() == before and not inner._forward_hooks and not inner._forward_pre_hooks
