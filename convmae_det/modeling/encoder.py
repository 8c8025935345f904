"""The ConvMAE encoder: two convolution stages and a transformer stage (arXiv 2205.03892, section 3.1; table 1).

One encoder serves pretraining and detection. Its tokens are channels-last; how they are arranged is the business of a
layout (modeling/masking.py): dense maps (N, h, w, C), or visible blocks (N, K, s, s, C) with s = 4, 2, 1.

N images, H×W pixels, C1 C2 C3 widths of the stages, h = H/16, w = W/16 the grid of stage 3, K visible blocks.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from ..ops.attention import table_bias
from ..ops.linear import Linear
from .attention import TransformerBlock, Window, padding_mask
from .conv_block import ConvBlock
from .masking import Dense
from .patch_embed import PatchEmbed
from .position_embedding import PositionEmbedding
from .relative_position import RelativePositionBias, resize_table

PATCH_SIZES = (4, 2, 2)  # each stage's stride relative to the one before
STRIDE = 16  # pixels along the side of a stage-3 token


class Encoder(nn.Module):
    """Images → E1, E2, E3 at strides 4, 8, 16.

    With `final_norm` it has the LayerNorm that pretraining applies after the fusion of the scales; the detector goes
    without. Stages 1 and 2 count as blocks of stochastic depth, too.
    """

    def __init__(
        self,
        *,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        num_heads: int,
        mlp_ratios: Sequence[float],
        grid: tuple[int, int],
        in_channels: int = 3,
        conv_kernel_size: int = 5,
        drop_path_rate: float = 0.0,
        learned_position: bool = False,
        windows: Sequence[Window | None] | None = None,
        relative_position: str = "none",
        relative_grid: tuple[int, int] | None = None,
        final_norm: bool = True,
        activation_checkpoint: bool = False,
    ):
        """`grid` (h, w): of the position embedding. `windows`: of each stage-3 block, None for global attention.
        `relative_position` none, shared or decomposed; `relative_grid`: that of the global blocks' tables."""
        super().__init__()
        self.embed_dims = tuple(embed_dims)
        drop_paths = [drop_path_rate * i / max(1, sum(depths) - 1) for i in range(sum(depths))]
        conv = dict(kernel_size=conv_kernel_size, activation_checkpoint=activation_checkpoint)
        first, second = depths[0], depths[0] + depths[1]
        self.stage1 = ConvStage(in_channels, embed_dims[0], PATCH_SIZES[0], mlp_ratios[0], drop_paths[:first], **conv)
        self.stage2 = ConvStage(
            embed_dims[0], embed_dims[1], PATCH_SIZES[1], mlp_ratios[1], drop_paths[first:second], **conv
        )
        self.stage3 = TransformerStage(
            embed_dims[1],
            embed_dims[2],
            num_heads,
            mlp_ratios[2],
            drop_paths[second:],
            PositionEmbedding(embed_dims[2], grid, learned_position),
            windows or [None] * depths[2],
            relative_position,
            relative_grid or grid,
            activation_checkpoint,
        )
        self.norm = nn.LayerNorm(embed_dims[2], eps=1e-6) if final_norm else None

    @property
    def stages(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.stage1, self.stage2, self.stage3

    def forward(self, images: torch.Tensor, layout: Dense | None = None) -> list[torch.Tensor]:
        """images (N, channels, H, W), H and W multiples of 16 → [E1, E2, E3].

        Dense: (N, H/4, W/4, C1), (N, H/8, W/8, C2), (N, H/16, W/16, C3). Visible blocks: (N, K, 4, 4, C1),
        (N, K, 2, 2, C2), (N, K, 1, 1, C3). No norm is applied to them.
        """
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise InputError(f"an image of {height}×{width} pixels can't be encoded; pad it to multiples of {STRIDE}")
        layout = layout or Dense()
        tokens = layout.enter(images.permute(0, 2, 3, 1))
        e1 = self.stage1(tokens, layout)
        e2 = self.stage2(e1, layout)
        e1, e2 = layout.leave(e1), layout.leave(e2)
        e3 = self.stage3(e2, layout, (height // STRIDE, width // STRIDE))
        return [e1, e2, e3]


class ConvStage(nn.Module):
    """Stages 1 and 2: patch embedding, then convolution blocks."""

    def __init__(
        self, in_dim, dim, patch_size, mlp_ratio, drop_paths, kernel_size: int, activation_checkpoint: bool = False
    ):
        super().__init__()
        self.activation_checkpoint = activation_checkpoint
        self.patch_embed = PatchEmbed(in_dim, dim, patch_size)
        self.blocks = nn.ModuleList(ConvBlock(dim, mlp_ratio, kernel_size, rate) for rate in drop_paths)

    def forward(self, tokens: torch.Tensor, layout: Dense) -> torch.Tensor:
        tokens = self.patch_embed(tokens)
        for block in self.blocks:
            tokens = run_block(block, tokens, layout, recompute=self.activation_checkpoint)
        return tokens


class TransformerStage(nn.Module):
    """Stage 3: patch embedding, linear layer, position embedding, then transformer blocks."""

    def __init__(
        self,
        in_dim: int,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        drop_paths: Sequence[float],
        position_embedding: PositionEmbedding,
        windows: Sequence[Window | None],
        relative_position: str,
        relative_grid: tuple[int, int],
        activation_checkpoint: bool = False,
    ):
        super().__init__()
        self.activation_checkpoint = activation_checkpoint
        self.patch_embed = PatchEmbed(in_dim, dim, PATCH_SIZES[2])
        self.linear = Linear(dim, dim)
        self.position_embedding = position_embedding
        nn.init.xavier_uniform_(self.linear.weight)

        decomposed = relative_position == "decomposed"
        self.mask_padding = not decomposed  # ViTDet's padding takes part as keys; its weights are trained with that
        self.blocks = nn.ModuleList()
        for rate, window in zip(drop_paths, windows, strict=True):
            own_grid = (window.size, window.size) if window else relative_grid
            block = TransformerBlock(dim, num_heads, mlp_ratio, rate, window, own_grid if decomposed else None)
            self.blocks.append(block)

        self.global_bias = self.local_bias = None
        if relative_position == "shared" and None in windows:
            self.global_bias = RelativePositionBias(num_heads, relative_grid)
        sizes = {window.size for window in windows if window}
        if relative_position == "shared" and sizes:
            (size,) = sizes
            self.local_bias = RelativePositionBias(num_heads, (size, size))

    def forward(self, tokens: torch.Tensor, layout: Dense, grid: tuple[int, int]) -> torch.Tensor:
        tokens = self.linear(self.patch_embed(tokens))
        tokens = tokens + layout.select(self.position_embedding(grid))
        biases = self.attention_biases(tokens, grid)
        for block in self.blocks:
            tokens = run_block(block, tokens, biases[block.window], recompute=self.activation_checkpoint)
        return tokens

    def attention_biases(self, tokens: torch.Tensor, grid: tuple[int, int]) -> dict:
        """For each kind of attention among the blocks, what is added to its logits: relative position bias and padding
        mask, (1 or N·windows, heads or 1, S, S) in the dtype of the attention, or None. Built once for all blocks; what
        stands for those of global attention, ops/attention.py decides."""
        device = tokens.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else tokens.dtype
        local_bias = self.local_bias(self.local_bias.grid)[None].to(dtype) if self.local_bias else None
        biases = {}
        for window in {block.window for block in self.blocks}:
            if window is None:
                table = resize_table(self.global_bias.table, grid) if self.global_bias else None
                biases[window] = None if table is None else table_bias(table, grid, dtype)
                continue
            bias = local_bias
            allowed = padding_mask(window, grid, tokens.device) if self.mask_padding else None
            if allowed is not None:
                hidden = torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, float("-inf"))[:, None]
                bias = hidden if bias is None else bias + hidden
                bias = bias.repeat(tokens.shape[0], 1, 1, 1)
            biases[window] = bias
        return biases


def run_block(block: nn.Module, *args, recompute: bool):
    """One block, its activations recomputed in the backward pass if asked for and of use."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, *args, use_reentrant=False)
    return block(*args)
