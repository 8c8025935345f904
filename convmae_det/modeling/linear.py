"""Linear layers on channels-last tokens (…, C), the bulk of all operations, and the MLP made of two of them."""

import torch
import torch.nn.functional as F
from torch import nn


class Linear(nn.Linear):
    """nn.Linear; in float32 on the CPU it runs as the 1×1 convolution that it also is.

    PyTorch gives matrix products to MKL, which uses the widest vectors of its maker's processors only, and convolutions
    to oneDNN, which uses those of any: twice the speed on an AMD EPYC with AVX-512 (tools/benchmark.py).
    """

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)"""
        if not _runs_as_convolution(tokens):
            return super().forward(tokens)
        # (1, in, tokens, 1) in torch's channels_last format: the same memory
        maps = tokens.reshape(1, -1, 1, self.in_features).permute(0, 3, 1, 2)
        result = F.conv2d(maps, self.weight[:, :, None, None], self.bias)
        return result.permute(0, 2, 3, 1).reshape(*tokens.shape[:-1], self.out_features)


def _runs_as_convolution(tokens: torch.Tensor) -> bool:
    on_cpu = tokens.device.type == "cpu" and torch.backends.mkldnn.is_available()
    return on_cpu and tokens.dtype == torch.float32 and tokens.numel() > 0 and not torch.is_autocast_enabled("cpu")


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(tokens)))
