"""Memory traffic, counted: what operations read and write of tensors larger than a cache.

What is smaller is taken to stay there, which is the point of working piece by piece.
"""

from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from convmae_det.costs.operations import OperationCounter

CACHE = 16e6  # bytes


class Count(OperationCounter):
    """Operations and bytes of what runs while it is active, by the part whose module is at work."""

    def __init__(self, parts: Iterable[tuple[str, nn.Module]] = (), cache: float = CACHE):
        super().__init__(parts)
        self.cache, self.traffic = cache, Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = super().__torch_dispatch__(operation, types, args, kwargs)
        if not is_view(operation):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.traffic[self.part] += sum(map(self.bytes_of, tensors))
        return result

    def bytes_of(self, tensor: torch.Tensor) -> int:
        whole = tensor.untyped_storage().nbytes()
        return min(tensor.numel() * tensor.element_size(), whole) if whole > self.cache else 0


def is_view(operation) -> bool:
    """Whether it gives another view of its argument's memory, and touches none of it."""
    aliases = [returned.alias_info for returned in operation._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)
