"""The ConvMAE encoder: two convolution stages and a transformer stage (arXiv 2205.03892, section 3.1; table 1).

One encoder serves pretraining and detection. Its tokens are channels-last; how they are arranged is the business of a
layout (modeling/masked_convolution.py): dense maps (N, h, w, C), or visible blocks (N, K, s, s, C) with s = 4, 2, 1.

N images, H×W pixels, C1 C2 C3 widths of the stages, h = H/16, w = W/16 the grid of stage 3, K visible blocks.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from ..config.presets import STRIDE
from ..errors import InputError
from ..ops.attention import Bias, build_grid_bias, build_matrix_bias, mask_bias
from ..ops.layers import accelerate, match_stream
from .attention import RelativePositionBias, Window, build_padding_mask
from .blocks import ConvBlock, TransformerBlock
from .embeddings import PATCH_SIZES, PatchEmbed, PositionEmbedding
from .masked_convolution import Dense

STRIDES = {"e1": 4, "e2": 8, "e3": 16, "e4": 32}  # of the maps that detection takes


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
        conv_norm_eps: float = 1e-5,
        block_norm_eps: float = 1e-6,
        drop_path_rate: float = 0.0,
        learned_position: bool = False,
        crop_position: bool = False,
        windows: Sequence[Window | None] | None = None,
        relative_position: str = "none",
        relative_grid: tuple[int, int] | None = None,
        final_norm: bool = True,
    ):
        """Builds the three stages.

        Args:
            embed_dims, depths, mlp_ratios: of the three stages
            num_heads: of attention in stage 3
            grid: (h, w) of the position embedding
            in_channels: of the images
            conv_kernel_size: side of the depthwise convolutions, odd
            conv_norm_eps, block_norm_eps: of the norms in the convolution blocks, and in the transformer blocks
            drop_path_rate: of the last block, rising linearly from 0 at the first
            learned_position: whether the position embedding is trained
            crop_position: a smaller map takes the corner of the position embedding; else that is resized
            windows: of each stage-3 block, None for global attention; None: all attend globally
            relative_position: none; shared (a table for all global blocks, one for all others), blocks (one each), or
                decomposed
            relative_grid: (h, w) of the global blocks' relative positions; None: `grid`
            final_norm: see above
        """
        super().__init__()
        self.embed_dims = tuple(embed_dims)
        drop_paths = [drop_path_rate * i / max(1, sum(depths) - 1) for i in range(sum(depths))]
        first, second = depths[0], depths[0] + depths[1]
        conv = dict(kernel_size=conv_kernel_size, norm_eps=conv_norm_eps)
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
            PositionEmbedding(embed_dims[2], grid, learned_position, crop_position),
            windows or [None] * depths[2],
            relative_position,
            relative_grid or grid,
            block_norm_eps,
        )
        self.norm = nn.LayerNorm(embed_dims[2], eps=1e-6) if final_norm else nn.Identity()
        accelerate(self)

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
        self,
        in_dim: int,
        dim: int,
        patch_size: int,
        mlp_ratio: float,
        drop_paths: Sequence[float],
        kernel_size: int,
        norm_eps: float,
    ):
        super().__init__()
        self.patch_embed = PatchEmbed(in_dim, dim, patch_size)
        self.blocks = nn.ModuleList(ConvBlock(dim, mlp_ratio, kernel_size, rate, norm_eps) for rate in drop_paths)

    def forward(self, tokens: torch.Tensor, layout: Dense) -> torch.Tensor:
        tokens = self.patch_embed(tokens)
        for block in self.blocks:
            tokens = block(tokens, layout)
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
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        self.patch_embed = PatchEmbed(in_dim, dim, PATCH_SIZES[2])
        self.linear = nn.Linear(dim, dim)
        self.position_embedding = position_embedding
        nn.init.xavier_uniform_(self.patch_embed.proj.weight)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

        decomposed = relative_position == "decomposed"
        self.mask_padding = not decomposed  # ViTDet's padding takes part as keys; its weights are trained with that
        self.windows = tuple(windows)
        self.blocks = nn.ModuleList()
        for rate, window in zip(drop_paths, windows, strict=True):
            own_grid = (window.size, window.size) if window else relative_grid
            block = TransformerBlock(
                dim, num_heads, mlp_ratio, rate, window, own_grid if decomposed else None, norm_eps
            )
            self.blocks.append(block)

        self.global_bias = self.local_bias = None
        if relative_position == "shared" and None in windows:
            self.global_bias = RelativePositionBias(num_heads, relative_grid)
        sizes = {window.size for window in windows if window}
        if relative_position == "shared" and sizes:
            (size,) = sizes
            self.local_bias = RelativePositionBias(num_heads, (size, size))
        self.block_biases: nn.ModuleList | None = None
        if relative_position == "blocks":
            grids = ((window.size, window.size) if window else relative_grid for window in windows)
            self.block_biases = nn.ModuleList(RelativePositionBias(num_heads, grid) for grid in grids)

    def forward(self, tokens: torch.Tensor, layout: Dense, grid: tuple[int, int]) -> torch.Tensor:
        tokens = self.linear(self.patch_embed(tokens))
        tokens = tokens + match_stream(layout.select(self.position_embedding(grid)), tokens)
        shared = {} if self.block_biases else self.build_attention_biases(tokens, grid)
        for index, (block, window) in enumerate(zip(self.blocks, self.windows, strict=True)):
            bias = self.build_block_bias(index, tokens, grid) if self.block_biases else shared[window]
            tokens = block(tokens, bias)
        return tokens

    def build_attention_biases(self, tokens: torch.Tensor, grid: tuple[int, int]) -> dict[Window | None, Bias]:
        """Makes what is added to the logits of each kind of attention among the blocks, once for all of them.

        Returns:
            By window: relative position bias and padding mask, (1 or N·windows, heads or 1, S, S) or what
            ops/attention.py puts in its place; None: nothing
        """
        local = (
            build_matrix_bias(self.local_bias(self.local_bias.grid), self.local_bias.grid, tokens)
            if self.local_bias
            else None
        )
        biases: dict[Window | None, Bias] = {}
        for window in set(self.windows):
            if window is None:
                biases[window] = build_grid_bias(self.global_bias(grid), grid, tokens) if self.global_bias else None
            else:
                biases[window] = self._add_padding_mask(local, window, tokens, grid)
        return biases

    def build_block_bias(self, index: int, tokens: torch.Tensor, grid: tuple[int, int]) -> Bias:
        """Makes the same for the block `index`, which has a table of its own."""
        assert self.block_biases is not None
        window, relative = self.windows[index], cast(RelativePositionBias, self.block_biases[index])
        if window is None:
            return build_grid_bias(relative(grid), grid, tokens)
        return self._add_padding_mask(
            build_matrix_bias(relative(relative.grid), relative.grid, tokens), window, tokens, grid
        )

    def _add_padding_mask(
        self, bias: torch.Tensor | None, window: Window, tokens: torch.Tensor, grid: tuple[int, int]
    ) -> torch.Tensor | None:
        mask = build_padding_mask(window, grid, tokens.device) if self.mask_padding else None
        return mask_bias(bias, mask, tokens)


def list_feature_channels(embed_dims: Sequence[int]) -> dict[str, int]:
    c1, c2, c3 = embed_dims
    return {"e1": c1, "e2": c2, "e3": c3, "e4": c3}


def select_feature_maps(stages: Sequence[torch.Tensor], names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The encoder's [E1, E2, E3], (N, h, w, C) each, → the maps with `names`, (N, C, h, w); E4 is E3's 2×2 max-pool."""
    maps = {f"e{i}": stage.permute(0, 3, 1, 2) for i, stage in enumerate(stages, start=1)}
    if "e4" in names:
        maps["e4"] = F.max_pool2d(maps["e3"], kernel_size=2)
    return {name: maps[name] for name in names}
