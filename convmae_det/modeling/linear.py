"""Linear layers on channels-last tokens (…, C), the bulk of all operations, the MLP made of two of them, and how large
maps pass through what looks at each token by itself."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

PIECE = 2048  # tokens of which a CPU's cache holds what an MLP computes between its input and its result
SMALL_CONVOLUTION = 20480  # values up to which PyTorch makes a convolution without oneDNN
ONEDNN = torch.backends.mkldnn.is_available()  # asked once, since torch.compile can't ask


class Linear(nn.Linear):
    """nn.Linear; in float32 on the CPU it runs as the 1×1 convolution that it also is.

    PyTorch gives matrix products to MKL, which uses the widest vectors of its maker's processors only, and convolutions
    to oneDNN, which uses those of any: twice the speed on an AMD EPYC with AVX-512 (tools/benchmark.py).
    """

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)"""
        return linear(tokens, self.weight, self.bias)


def linear(tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(…, in) → (…, out), as :class:`Linear` does it; weight (out, in), bias (out,)"""
    if not _runs_as_convolution(tokens):
        return F.linear(tokens, weight, bias)
    result = F.conv2d(_maps(tokens), weight[:, :, None, None], bias)
    return result.permute(0, 2, 3, 1).reshape(*tokens.shape[:-1], len(weight))


def linear_backward(gradient, tokens, weight, needed: list[bool]) -> tuple[torch.Tensor | None, ...]:
    """The gradients of `tokens`, `weight` and the bias of :func:`linear`, as far as they are `needed`, from that of its
    result (…, out)."""
    if _runs_as_convolution(tokens):
        maps = _maps(gradient), _maps(tokens), weight[:, :, None, None]
        geometry = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
        of_maps, of_weight, of_bias = torch.ops.aten.convolution_backward(*maps, [len(weight)], *geometry, needed)
        of_tokens = of_maps.permute(0, 2, 3, 1).reshape(tokens.shape) if needed[0] else None
        return of_tokens, of_weight.flatten(1) if needed[1] else None, of_bias
    rows = gradient.flatten(0, -2)
    return (
        gradient @ weight if needed[0] else None,
        rows.T @ tokens.flatten(0, -2) if needed[1] else None,
        rows.sum(0) if needed[2] else None,
    )


def _maps(tokens: torch.Tensor) -> torch.Tensor:
    """(…, C) → (1, C, tokens, 1) in torch's channels_last format: the same memory"""
    return tokens.reshape(1, -1, 1, tokens.shape[-1]).permute(0, 3, 1, 2)


def _runs_as_convolution(tokens: torch.Tensor) -> bool:
    plain = tokens.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return ONEDNN and plain and tokens.device.type == "cpu" and tokens.numel() > SMALL_CONVOLUTION


def eager_on_cpu(device: torch.device) -> bool:
    """Whether operations run one by one on a CPU, so that it is for us to see that they find their values in its cache.
    A trace or a compiler takes the plain form."""
    return device.type == "cpu" and not (torch.jit.is_tracing() or torch.compiler.is_compiling())


def by_pieces(function: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """`function(tokens)` of a function that treats each token by itself, (…, C) → (…, D).

    On the CPU a map of more tokens than a cache holds goes through it piece by piece, and once more in the backward
    pass: what is computed on the way neither goes to memory nor is kept. It takes no longer: memory is that slow.
    """
    rows = tokens.flatten(0, -2)
    training = torch.is_grad_enabled()
    if not eager_on_cpu(tokens.device) or len(rows) <= PIECE * (1 + training):
        return function(tokens)
    pieces = rows.split(PIECE)
    if training:
        results = [checkpoint(function, piece, use_reentrant=False) for piece in pieces]
    else:
        results = [function(piece) for piece in pieces]
    return torch.cat(results).unflatten(0, tokens.shape[:-1])


class Mlp(nn.Module):
    """Linear, GELU, linear. The GELU's result, the largest of a block, is not kept for the backward pass."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.fc1(tokens)
        if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and hidden.requires_grad):
            return self.fc2(self.act(hidden))  # a compiler decides for itself what to keep
        weight, bias = self.fc2.weight.to(hidden.dtype), self.fc2.bias.to(hidden.dtype)  # autocast's, if it is on
        return _GeluLinear.apply(hidden, weight, bias)


class _GeluLinear(torch.autograd.Function):
    """linear(gelu(hidden)), of which `hidden` alone is kept: the activation is computed again, which costs one pass
    over it, and saves a quarter of what a block keeps."""

    @staticmethod
    def forward(ctx, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight)
        return linear(F.gelu(hidden), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        needed = list(ctx.needs_input_grad)
        of_activated, *others = linear_backward(gradient, F.gelu(hidden), weight, needed)
        return torch.ops.aten.gelu_backward(of_activated, hidden) if needed[0] else None, *others
