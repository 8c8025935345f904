"""What a GPU would launch, move and keep in one step of training, counted on tensors without values.

No GPU is needed: shapes and types go through the network, forward and backward, in the forms and by the kernels that a
GPU takes in mixed precision. Each operation of PyTorch that is no view is taken for one kernel, which reads what it is
given and writes what it gives, both in memory: what kernels share in a cache is not known.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..ops import choice

aten = torch.ops.aten

# Operations that launch nothing, though they are no views.
FREE = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "detach", "_unsafe_view"}
CASTS, COPIES = "casts", "copies"
# What a kernel does, by the name of its operation in torch.ops; the first that fits.
KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("matrix products", ("mm", "addmm", "bmm", "baddbmm")),
    ("attention", ("_scaled_dot_product",)),
    ("convolution", ("convolution",)),
    ("layer norm", ("native_layer_norm",)),
    ("gelu", ("gelu",)),
    (COPIES, ("stack", "clone", "copy", "cat", "constant_pad", "flip", "repeat")),
    ("place and select", ("index", "scatter", "gather", "sort", "argsort", "unfold")),
    ("fills", ("zeros", "ones", "full", "fill", "zero", "new_zeros", "new_ones", "new_full", "arange")),
    ("sums", ("sum", "mean", "var_mean")),
)


@dataclass
class Counts:
    """Counts of a step, by kind of kernel; bytes."""

    kernels: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    kept: int = 0  # for the backward pass, beside the parameters
    operations: Counter[str] = field(default_factory=Counter)  # kernels by the names of torch.ops


def count_step(build: Callable[[], nn.Module], run: Callable[[nn.Module], torch.Tensor], train: bool = True) -> Counts:
    """Counts a training step in bfloat16, without its optimizer, or a forward pass.

    Args:
        build: gives the network; what it makes has no values
        run: gives the loss of the network on inputs that it makes
        train: with a backward pass
    """
    counts = Counts()
    with FakeTensorMode(), choice.simulate_gpu():
        model = build().train(train)
        mixed = torch.autocast("cpu", torch.bfloat16)
        with use_gpu_kernels(), KernelCounter(counts), mixed, count_kept(counts, model), torch.set_grad_enabled(train):
            loss = run(model)
        if train:
            with use_gpu_kernels(), KernelCounter(counts):
                loss.backward()
    return counts


class KernelCounter(TorchDispatchMode):
    """Adds what runs while it is active to `counts`."""

    def __init__(self, counts: Counts):
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        if operation.namespace == "aten" and name not in FREE and not is_view(operation):
            kind = find_kind(name, args, result)
            self.counts.kernels[kind] += 1
            self.counts.operations[name] += 1
            self.counts.moved[kind] += count_moved(name, args, kwargs or {}, result)
        return result


def is_view(operation: Any) -> bool:
    """Whether it gives another view of its argument's memory, and touches none of it."""
    aliases = [returned.alias_info for returned in operation._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def find_kind(name: str, args: tuple, result: Any) -> str:
    if name in ("_to_copy", "copy_", "_foreach_copy_"):
        target, source = (result, args) if name == "_to_copy" else args[:2]
        return CASTS if list_tensors(target)[0].dtype != list_tensors(source)[0].dtype else COPIES
    found = (kind for kind, names in KINDS if any(name.lstrip("_").startswith(start.lstrip("_")) for start in names))
    return next(found, "elementwise")


def list_tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def count_moved(name: str, args: tuple, kwargs: dict, result: Any) -> int:
    """Counts the bytes that an operation reads and writes."""
    read, written = sum(map(count_bytes, list_tensors((args, kwargs)))), sum(map(count_bytes, list_tensors(result)))
    if name.startswith("index") and name != "index_select" and "put" in name:
        return 2 * count_bytes(args[2])
    if name in ("index", "index_select", "gather"):
        return 2 * written
    if name.endswith("_like") or name.startswith("new_") or name in ("fill_", "zero_"):
        return written
    if name in ("copy_", "_foreach_copy_"):
        return sum(map(count_bytes, list_tensors(args)))  # the target is written, not read
    return read + written


def count_bytes(tensor: torch.Tensor) -> int:
    """Counts those of a tensor; what is expanded counts once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


@contextlib.contextmanager
def count_kept(counts: Counts, model: nn.Module) -> Iterator[None]:
    """Adds the bytes that autograd keeps of what runs in it to `counts`."""
    memories = {p.untyped_storage()._cdata for p in model.parameters()}
    alive = []  # so that no memory is taken for another that has gone

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        if memory._cdata not in memories:
            memories.add(memory._cdata)
            alive.append(tensor)
            counts.kept += memory.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


@contextlib.contextmanager
def use_gpu_kernels() -> Iterator[None]:
    """Runs by the kernels of a GPU what autocast would run by others on the CPU, also where activations are recomputed.

    Layer norms are computed in float32, attention by the kernel that takes its bias: memory-efficient, or flash.
    """
    functional: Any = F  # in which others look them up
    normalise, attend = F.layer_norm, F.scaled_dot_product_attention

    def normalise_in_float32(tokens: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return normalise(tokens.float() if torch.is_autocast_enabled("cpu") else tokens, *args, **kwargs)

    def attend_in_autocast(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
        return attend_on_gpu(query.to(dtype), key.to(dtype), value.to(dtype), **kwargs)

    functional.layer_norm, functional.scaled_dot_product_attention = normalise_in_float32, attend_in_autocast
    try:
        yield
    finally:
        functional.layer_norm, functional.scaled_dot_product_attention = normalise, attend


def attend_on_gpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """F.scaled_dot_product_attention by the operations that it calls on a GPU."""
    if attn_mask is None:
        return aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)[0]
    if any(stride % 8 for stride in attn_mask.stride()[:-1]):  # then the kernel's caller copies it
        columns = attn_mask.shape[-1]
        attn_mask = F.pad(attn_mask, (0, -columns % 8))[..., :columns]
    bias = attn_mask.to(query.dtype).expand(*query.shape[:3], key.shape[2])
    return aten._scaled_dot_product_efficient_attention(query, key, value, bias, True, scale=scale)[0]
