"""The MLP of all blocks (paper, section 3.1)."""

import torch
from torch import nn

from ..ops.pointwise import pointwise


class Mlp(nn.Module):
    """Linear, GELU, linear on channels-last tokens."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, dim) → (…, dim)"""
        return pointwise(tokens, self.fc1, self.act, self.fc2)
