"""The rule that chooses forms is one of device, processor, precision and size, and can be overridden."""

import contextlib

import pytest
import torch

from convmae_det.errors import InputError
from convmae_det.ops import choice

WIDE = torch.zeros(choice.SMALL_CONVOLUTION + 1, 1)
KERNELS = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()), reason="without MKL or oneDNN"
)


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    """Answers about the machine are kept; here each test has its own."""
    monkeypatch.delenv("CONVMAE_OPS", raising=False)
    asked = (choice.onednn_is_wider, choice.find_vendor, choice.read_overrides)
    for question in asked:
        question.cache_clear()
    yield
    for question in asked:
        question.cache_clear()


def processor(monkeypatch, vendor: str, vectors: str) -> None:
    monkeypatch.setattr(choice, "find_vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)


@KERNELS
@pytest.mark.parametrize(
    ("vendor", "vectors", "convolution"),
    [
        ("AMD", "AVX512", True),
        ("AMD", "AVX2", False),
        ("Intel", "AVX512", False),
        ("Intel", "AVX2", False),
        ("", "AVX512", True),
        ("", "DEFAULT", False),
    ],
)
def test_linear_layers_are_convolutions_where_mkl_leaves_vectors_unused(monkeypatch, vendor, vectors, convolution):
    processor(monkeypatch, vendor, vectors)
    assert choice.linear_is_convolution(WIDE) == choice.product_is_onednn(torch.float32) == convolution


@KERNELS
def test_other_precisions_and_small_maps_are_products(monkeypatch):
    processor(monkeypatch, "AMD", "AVX512")
    assert choice.linear_is_convolution(WIDE)
    assert not choice.linear_is_convolution(WIDE[1:])
    assert not choice.linear_is_convolution(WIDE.double()) and not choice.linear_is_convolution(WIDE.bfloat16())
    assert not choice.product_is_onednn(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert not choice.linear_is_convolution(WIDE)


def everything(tokens: torch.Tensor) -> list[bool]:
    return [
        choice.linear_is_convolution(tokens),
        choice.bias_stays_table(tokens.device, 10**6),
        choice.choose_piece(tokens) is not None,
    ]


def test_on_a_gpu_plain_forms_run(monkeypatch):
    processor(monkeypatch, "AMD", "AVX512")
    assert everything(torch.zeros(10**6, 1, device="meta")) == [False] * 3  # a device that is no CPU


@KERNELS
def test_traces_and_transforms_get_plain_forms(monkeypatch):
    processor(monkeypatch, "AMD", "AVX512")
    found = []

    def look(tokens):
        found.append(everything(torch.zeros(10**5, 1)))
        return tokens.sum()

    look(torch.zeros(3))
    torch.jit.trace(look, torch.zeros(3), check_trace=False)
    torch.func.grad(look)(torch.zeros(3))
    assert found == [[True] * 3, [False] * 3, [False] * 3]


def test_the_vendor_is_one_that_is_known():
    assert choice.find_vendor() in ("Intel", "AMD", "")


def test_the_environment_overrides_the_rule(monkeypatch):
    monkeypatch.setenv("CONVMAE_OPS", "linear=convolution attention=matrix pieces=pieces")
    assert choice.linear_is_convolution(torch.zeros(2, 1))
    assert not choice.bias_stays_table(torch.device("cpu"), 10**6)
    assert choice.choose_piece(torch.zeros(2, 1)) == choice.PIECE


@pytest.mark.parametrize("value", ["linear=fast", "softmax=table", "linear"])
def test_what_is_no_form_is_refused(monkeypatch, value):
    monkeypatch.setenv("CONVMAE_OPS", value)
    with pytest.raises(InputError, match="CONVMAE_OPS .* choose among linear=product"):
        choice.choose_piece(torch.zeros(2, 1))


def test_biases_by_row_and_column_are_folded_where_it_pays(monkeypatch):
    monkeypatch.setattr(choice, "read_overrides", dict)
    cpu, gpu = torch.device("cpu"), torch.device("meta")  # one that is no CPU
    large, wide = choice.MATRIX_TOKENS + 1, choice.MAX_HEAD + 1
    assert choice.folds_bias(cpu, wide, large) and not choice.folds_bias(cpu, wide, choice.MATRIX_TOKENS)
    with torch.no_grad():
        assert not choice.folds_bias(cpu, wide, large)
        assert choice.folds_bias(gpu, wide - 1, large) and not choice.folds_bias(gpu, wide, 1)


def test_attention_with_a_bias_is_not_cudnn_s():
    allowed = torch.backends.cuda.cudnn_sdp_enabled
    bias, before = torch.zeros(1, 1, 2, 2), allowed()
    for simulated in (False, True):
        with choice.simulate_gpu() if simulated else contextlib.nullcontext():
            with choice.choose_attention_kernels(bias):
                assert allowed() == (before and not simulated)
                assert torch.backends.cuda.mem_efficient_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()
            with choice.choose_attention_kernels(None):
                assert allowed() == before
    assert allowed() == before
