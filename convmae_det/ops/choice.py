"""Which form of an operation runs: one rule for all, by device, processor, precision and size.

Nothing is timed to decide, so that a run repeats itself bit for bit on the same machine. docs/operations.md has the
measurements behind the numbers here. A compiler, a trace and torch.func's transforms get one form for all sizes.

The environment variable CONVMAE_OPS overrides the rule, to measure what it is worth: `linear=product attention=table`.
"""

import contextlib
import functools
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import InputError

FORMS = {
    "linear": ("product", "convolution"),  # torch's matrix product, or the 1×1 convolution that a linear layer also is
    "depthwise": ("plain", "grouped"),  # gradients of a depthwise convolution's weights, or the diagonals of groups
    "attention": ("matrix", "table"),  # relative position biases looked up for all pairs of tokens, or where needed
    "decomposed": ("matrix", "folded"),  # biases by row and column as a matrix of all pairs, or as more channels
    "pieces": ("whole", "pieces"),  # a large map passes pointwise layers at once, or some thousand tokens at a time
    "regions": ("exact", "padded"),  # a head sees the regions that there are, or up to half as many more
    "stream": ("wide", "narrow"),  # of mixed precision: tokens between layers are float32, or of the narrow type
    "placed": ("kept", "again"),  # maps with blocks on them: kept for the backward pass, or made again from the blocks
    "casts": ("each", "together"),  # of mixed precision: weights cast where they are used, or those of a block at once
}

SMALL_CONVOLUTION = 20480  # values up to which PyTorch makes a convolution without oneDNN
MATRIX_TOKENS = 512  # up to which all biases and logits of an image stay in a cache: 1 MB a head
MAX_HEAD = 256  # channels of a head in PyTorch's fused kernels for GPUs
PIECE = 2048  # tokens of which a cache holds what an MLP computes between its input and its result
RECOMPUTED_TOKENS = 8 * PIECE  # up to which a training step is faster if it keeps what else it would compute twice


_simulations: list[None] = []  # those of a GPU that are going on


def is_cpu(device: torch.device) -> bool:
    """Whether the forms of a CPU are asked for: the one question about the kind of device."""
    return device.type == "cpu" and not _simulations


@contextlib.contextmanager
def simulate_gpu() -> Iterator[None]:
    """Within it tensors on the CPU get the forms of a GPU: for tests, and for counts of what a GPU would run."""
    _simulations.append(None)
    try:
        yield
    finally:
        _simulations.pop()


def runs_eagerly(device: torch.device) -> bool:
    """Whether operations run one by one on a CPU, so that it is for us to see that its cache holds their values."""
    return is_cpu(device) and not is_transformed()


def is_transformed() -> bool:
    """Whether a compiler, a trace or torch.func's transforms look on, which want plain operations."""
    return is_compiled() or torch.jit.is_tracing() or is_functional()


def is_compiled() -> bool:
    """Whether torch.compile or torch.export look on."""
    return torch.compiler.is_compiling()


def is_functional() -> bool:
    """Whether torch.func's transforms look on, which know nothing of hooks that keep tensors in other ways."""
    return torch._C._are_functorch_transforms_active()


def runs_in_float32(tensor: torch.Tensor) -> bool:
    """:func:`runs_eagerly`, and in float32."""
    return runs_eagerly(tensor.device) and tensor.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def linear_is_convolution(tokens: torch.Tensor) -> bool:
    """For tokens (…, C) of a linear layer: in float32, on a processor whose vectors MKL doesn't use."""
    if not runs_in_float32(tokens):
        return False
    return _chosen("linear", "convolution", onednn_is_wider() and tokens.numel() > SMALL_CONVOLUTION)


def product_is_onednn(dtype: torch.dtype) -> bool:
    """The same for a product of two matrices that are no layer's, where :mod:`.table_attention` asks for it."""
    return dtype == torch.float32 and _chosen("linear", "convolution", onednn_is_wider())


def choose_depthwise_group(maps: torch.Tensor) -> int:
    """The channels of a group in which oneDNN computes the gradients of a depthwise convolution's weights.

    Args:
        maps: (N, C, h, w), which are convolved

    Returns:
        As many as a vector holds; 0: each channel by itself
    """
    if not (runs_in_float32(maps) and _chosen("depthwise", "grouped", torch.backends.mkldnn.is_available())):
        return 0
    group = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
    return group if maps.shape[1] % group == 0 else 0


def bias_stays_table(device: torch.device, tokens: int) -> bool:
    """For global attention on a grid of so many tokens, with biases from a table."""
    return runs_eagerly(device) and _chosen("attention", "table", tokens > MATRIX_TOKENS)


def bias_is_shared(device: torch.device) -> bool:
    """Whether blocks share one matrix of biases and add their gradients up in the table each by itself.

    On a GPU, where the gradients of all pairs, of each image, would pass through memory once more for each sum.
    """
    return not (is_cpu(device) or is_transformed())


def choose_bias_alignment(device: torch.device) -> int:
    """Of how many columns the rows of a bias in memory must be a multiple."""
    return 1 if is_cpu(device) or is_transformed() else 8


def choose_attention_kernels(bias: torch.Tensor | None) -> contextlib.AbstractContextManager:
    """A context that leaves to PyTorch the kernels of fused attention that are right for a bias.

    Not cuDNN's on a GPU, which H100 may prefer: with a bias it makes a plan for each new shape, of which images of many
    sizes have many, and flash attention takes no bias. Without one PyTorch chooses among all.
    """
    if bias is None or is_cpu(bias.device):
        return contextlib.nullcontext()
    return sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def folds_bias(device: torch.device, channels: int, tokens: int) -> bool:
    """Whether biases by row and column become channels of query and key, so many in all, on a grid of so many tokens.

    On a GPU the fused kernels without a bias take heads of up to MAX_HEAD channels. On a CPU it pays in training, where
    the gradients of a matrix of biases would go to memory.
    """
    if is_cpu(device):
        by_rule = is_transformed() or (torch.is_grad_enabled() and tokens > MATRIX_TOKENS)
    else:
        by_rule = is_transformed() or channels <= MAX_HEAD
    return _chosen("decomposed", "folded", by_rule)


def choose_piece(tokens: torch.Tensor) -> int | None:
    """How many of the tokens (n, C) pass pointwise layers together; None: all.

    In a training step pieces are computed once more in the backward pass.
    """
    if not runs_eagerly(tokens.device):
        return None
    most = RECOMPUTED_TOKENS if torch.is_grad_enabled() else PIECE
    return PIECE if _chosen("pieces", "pieces", len(tokens) > most) else None


def choose_padded_regions(regions: torch.Tensor) -> int:
    """How many regions a head sees in place of the R that are there, (R, …).

    A power of two, or halfway to the next, so that the kernels that are compiled for each number are few.
    """
    count = regions.shape[0]
    if not (runs_eagerly(regions.device) and _chosen("regions", "padded", True)):
        return count
    step = 2 ** max(0, (count - 1).bit_length() - 2)
    return -(-count // step) * step


def stream_is_narrow(tokens: torch.Tensor) -> bool:
    """Whether the tokens, which a layer has given in bfloat16, stay in it where autocast would make them float32.

    On a GPU, whose time goes to memory: norms would read and write float32, and the sum of all blocks would be it. Not
    in float16, in which the largest values would be infinite.
    """
    narrow = tokens.dtype == torch.bfloat16 and _find_narrow_type(tokens) == tokens.dtype
    return narrow and _chosen("stream", "narrow", not is_cpu(tokens.device))


def keeps_placed_maps(device: torch.device) -> bool:
    """Whether maps that blocks have been placed on are kept for the backward pass; most of them is zero.

    On a GPU, whose memory decides how many images a pass takes, they are placed once more.
    """
    return is_transformed() or _chosen("placed", "kept", is_cpu(device))


def find_cast_together(tokens: torch.Tensor) -> torch.dtype | None:
    """The type in which the weights of a block are cast at once; None: each where it is used, if at all."""
    dtype = _find_narrow_type(tokens)
    return dtype if dtype is not None and _chosen("casts", "together", not is_cpu(tokens.device)) else None


def _find_narrow_type(tokens: torch.Tensor) -> torch.dtype | None:
    """That of autocast; None without, or where what looks on wants plain operations."""
    device = tokens.device.type
    return None if is_transformed() or not torch.is_autocast_enabled(device) else torch.get_autocast_dtype(device)


@functools.cache
def onednn_is_wider() -> bool:
    """Whether PyTorch's convolutions, by oneDNN, use wider vectors than its matrix products, by MKL.

    That is so with AVX-512 of another maker than MKL's.
    """
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return (
        wide and torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available() and find_vendor() != "Intel"
    )


@functools.cache
def find_vendor() -> str:
    """The processor's maker: Intel, AMD, or "" where it can't be told."""
    try:
        described = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        described = platform.processor()
    names = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD"}
    return next((name for mark, name in names.items() if mark in described), "")


def _chosen(operation: str, form: str, by_rule: bool) -> bool:
    """Whether `form` of the `operation` runs: by the rule, unless CONVMAE_OPS says otherwise."""
    forced = read_overrides().get(operation)
    return by_rule if forced is None else forced == form


@functools.cache
def read_overrides() -> dict[str, str]:
    """The forms that CONVMAE_OPS asks for. Raises InputError: it names others than FORMS."""
    pairs = [pair.partition("=") for pair in os.environ.get("CONVMAE_OPS", "").split()]
    for operation, _, form in pairs:
        if form not in FORMS.get(operation, ()):
            known = ", ".join(f"{name}={form}" for name, forms in FORMS.items() for form in forms)
            raise InputError(f"CONVMAE_OPS holds {operation}={form}: choose among {known}, or unset it")
    return {operation: form for operation, _, form in pairs}
