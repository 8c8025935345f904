"""The published ConvMAE in its plain form: what the tests hold the package against and the benchmark times it against.

Dense channels-first maps, strided convolutions as patch embeddings, 1×1 convolutions, a mask multiplied at every
depthwise convolution, visible tokens gathered only before stage 3, materialised attention, all patches predicted and
the loss masked. Each network works at the one grid that it is built for. Parameters have the names and shapes of the
public checkpoints; :func:`published` gives them to the tensors of our modules.

N images, H×W pixels, (h, w) = (H/16, W/16) the grid of stage 3, L = h·w, K visible tokens, C1 C2 C3 widths.
"""

import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

# our name → published name, and the side of the convolution's kernel where ours is linear on folded tokens
RENAMED = (
    (r"stage1\.patch_embed\.(.*)", r"patch_embed1.\1", 4),
    (r"stage([23])\.patch_embed\.(.*)", r"patch_embed\1.\2", 2),
    (r"stage3\.linear\.(.*)", r"patch_embed4.\1", None),
    (r"stage3\.position_embedding\.table", "pos_embed", None),
    (r"stage3\.local_bias\.table", "windowed_rel_pos_bias.relative_position_bias_table", None),
    (r"stage3\.global_bias\.table", "global_rel_pos_bias.relative_position_bias_table", None),
    (r"stage3\.blocks\.(.*)", r"blocks3.\1", None),
    (r"stage([12])\.blocks\.(\d+)\.pointwise([12])\.(.*)", r"blocks\1.\2.conv\3.\4", 1),
    (r"stage([12])\.blocks\.(\d+)\.depthwise\.(.*)", r"blocks\1.\2.attn.\3", None),
    (r"stage([12])\.blocks\.(\d+)\.mlp\.(.*)", r"blocks\1.\2.mlp.\3", 1),
    (r"stage([12])\.blocks\.(.*)", r"blocks\1.\2", None),
    (r"norm\.(.*)", r"norm.\1", None),
    (r"fusion\.heads\.0\.(.*)", r"stage1_output_decode.\1", 4),
    (r"fusion\.heads\.1\.(.*)", r"stage2_output_decode.\1", 2),
    (r"decoder\.position_embedding\.table", "decoder_pos_embed", None),
    (r"decoder\.mask_token", "mask_token", None),
    (r"decoder\.(.*)", r"decoder_\1", None),
)


def published(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights or gradients by our names, of a masked autoencoder, backbone or encoder → by the published names."""
    return dict(_published(name.removeprefix("encoder."), tensor) for name, tensor in tensors.items())


def _published(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    pattern, replacement, kernel = next(row for row in RENAMED if re.fullmatch(row[0], name))
    renamed = re.sub(pattern, replacement, name)
    if kernel and tensor.ndim == 2:
        tensor = tensor.unflatten(1, (kernel, kernel, -1)).permute(0, 3, 1, 2)
    elif renamed.endswith("relative_position_bias_table"):
        tensor = tensor.flatten(1).T
    elif renamed.endswith("pos_embed"):
        tensor = tensor.flatten(1, 2)
    elif renamed == "mask_token":
        tensor = tensor[None, None]
    return renamed, tensor


def take_weights(plain: nn.Module, ours: nn.Module) -> None:
    """Copies the weights of our module into its plain form; nothing may be missing or left over."""
    plain.load_state_dict(published(ours.state_dict()))


def normalise(norm: nn.LayerNorm, maps: torch.Tensor) -> torch.Tensor:
    """LayerNorm over the channels of (N, C, h, w)."""
    return norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
    """(N, in_dim, h, w) → (N, dim, h/size, w/size)"""

    def __init__(self, in_dim: int, dim: int, size: int):
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, size, stride=size)
        self.norm = nn.LayerNorm(dim)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return F.gelu(normalise(self.norm, self.proj(maps)))


class Mlp(nn.Module):
    """Two layers, `layer` being a linear layer on tokens or a 1×1 convolution on maps."""

    def __init__(self, dim: int, hidden: int, layer):
        super().__init__()
        self.fc1, self.fc2 = layer(dim, hidden), layer(hidden, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


def pointwise(in_dim: int, dim: int) -> nn.Conv2d:
    return nn.Conv2d(in_dim, dim, 1)


class ConvBlock(nn.Module):
    def __init__(self, dim: int, mlp_ratio: float, kernel_size: int = 5):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.conv1 = pointwise(dim, dim)
        self.attn = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.conv2 = pointwise(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), pointwise)

    def forward(self, maps: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """maps (N, C, h, w); visible (N, 1, h, w), 1 or 0; None: everything is visible."""
        mixed = self.conv1(normalise(self.norm1, maps))
        if visible is not None:
            mixed = mixed * visible
        maps = maps + self.conv2(self.attn(mixed))
        return maps + self.mlp(normalise(self.norm2, maps))


class Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """tokens (B, L, C); bias broadcastable to (B, heads, L, L)."""
        b, length, c = tokens.shape
        qkv = self.qkv(tokens).reshape(b, length, 3, self.num_heads, c // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if bias is not None:
            logits = logits + bias
        attended = logits.softmax(dim=-1) @ value
        return self.proj(attended.transpose(1, 2).reshape(b, length, c))


class Block(nn.Module):
    def __init__(self, dim: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), nn.Linear)

    def forward(self, tokens: torch.Tensor, attend=None) -> torch.Tensor:
        """tokens (N, L, C); `attend` replaces the plain global attention."""
        tokens = tokens + (attend or self.attn)(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


def build_sincos_table(dim: int, grid: tuple[int, int]) -> torch.Tensor:
    """(1, L, dim): of each token sin and cos of its column, then of its row."""
    omega = [10000 ** (-i / (dim // 4)) for i in range(dim // 4)]
    rows = []
    for y in range(grid[0]):
        for x in range(grid[1]):
            angles = [torch.tensor([position * o for o in omega], dtype=torch.float64) for position in (x, y)]
            rows.append(torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())]))
    return torch.stack(rows)[None].float()


class Encoder(nn.Module):
    """The three stages, as attributes of the network itself, as in the public checkpoints."""

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
    ):
        super().__init__()
        c1, c2, c3 = embed_dims
        self.grid = grid
        self.patch_embed1 = PatchEmbed(in_channels, c1, 4)
        self.patch_embed2 = PatchEmbed(c1, c2, 2)
        self.patch_embed3 = PatchEmbed(c2, c3, 2)
        self.patch_embed4 = nn.Linear(c3, c3)
        self.pos_embed = nn.Parameter(build_sincos_table(c3, grid), requires_grad=False)
        self.blocks1 = nn.ModuleList(ConvBlock(c1, mlp_ratios[0], conv_kernel_size) for _ in range(depths[0]))
        self.blocks2 = nn.ModuleList(ConvBlock(c2, mlp_ratios[1], conv_kernel_size) for _ in range(depths[1]))
        self.blocks3 = nn.ModuleList(Block(c3, num_heads, mlp_ratios[2]) for _ in range(depths[2]))

    def convolutions(self, images: torch.Tensor, visible: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """E1 (N, C1, H/4, W/4), E2 (N, C2, H/8, W/8) and stage 3's tokens (N, L, C3) before its blocks.

        Args:
            visible: (N, 1, h, w), 1 or 0
        """
        e1 = self.patch_embed1(images)
        for block in self.blocks1:
            e1 = block(e1, None if visible is None else upsample(visible, 4))
        e2 = self.patch_embed2(e1)
        for block in self.blocks2:
            e2 = block(e2, None if visible is None else upsample(visible, 2))
        tokens = self.patch_embed4(self.patch_embed3(e2).flatten(2).transpose(1, 2))
        return e1, e2, tokens + self.pos_embed


def upsample(mask: torch.Tensor, scale: int) -> torch.Tensor:
    return mask.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)


class MaskedAutoencoder(Encoder):
    """Pretraining with block-wise masking; `masked_conv` False: the convolutions see the hidden tokens."""

    def __init__(
        self,
        *,
        embed_dims: Sequence[int],
        mlp_ratios: Sequence[float],
        grid: tuple[int, int],
        in_channels: int = 3,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        mask_ratio: float = 0.75,
        masked_conv: bool = True,
        norm_pix_loss: bool = True,
        **encoder,
    ):
        super().__init__(embed_dims=embed_dims, mlp_ratios=mlp_ratios, grid=grid, in_channels=in_channels, **encoder)
        c1, c2, c3 = embed_dims
        self.mask_ratio, self.masked_conv, self.norm_pix_loss = mask_ratio, masked_conv, norm_pix_loss
        self.norm = nn.LayerNorm(c3, eps=1e-6)
        self.stage1_output_decode = nn.Conv2d(c1, c3, 4, stride=4)
        self.stage2_output_decode = nn.Conv2d(c2, c3, 2, stride=2)
        self.decoder_embed = nn.Linear(c3, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder_pos_embed = nn.Parameter(build_sincos_table(decoder_dim, grid), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_dim, decoder_heads, mlp_ratios[0]) for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_dim, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_dim, 256 * in_channels)

    def forward(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> SimpleNamespace:
        """Images (N, channels, H, W) and noise (N, L) to loss, prediction, visible and latent.

        Returns:
            The loss; (N, L, 256·channels); (N, L); (N, K, C3) in the order of the noise
        """
        length = self.grid[0] * self.grid[1]
        noise = torch.rand(images.shape[0], length, device=images.device) if noise is None else noise
        order = noise.argsort(dim=1)
        kept = order[:, : int(length * (1 - self.mask_ratio))]
        visible = torch.zeros_like(noise).scatter_(1, kept, 1.0)

        latent = self.encode(images, visible.unflatten(1, self.grid)[:, None], kept)
        prediction = self.decode(latent, order.argsort(dim=1))
        error = (prediction - self.target(images)).square().mean(dim=-1)
        loss = (error * (1 - visible)).sum() / (1 - visible).sum()
        return SimpleNamespace(loss=loss, prediction=prediction, visible=visible, latent=latent, kept=kept)

    def encode(self, images: torch.Tensor, visible: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        e1, e2, tokens = self.convolutions(images, visible if self.masked_conv else None)
        fused = [head(e) for head, e in ((self.stage1_output_decode, e1), (self.stage2_output_decode, e2))]
        tokens, *fused = (take(t, kept) for t in (tokens, *(f.flatten(2).transpose(1, 2) for f in fused)))
        for block in self.blocks3:
            tokens = block(tokens)
        return self.norm(tokens + fused[0] + fused[1])

    def decode(self, latent: torch.Tensor, restore: torch.Tensor) -> torch.Tensor:
        """Mask tokens behind the visible ones, all put in place by `restore` (N, L)."""
        tokens = self.decoder_embed(latent)
        hidden = self.mask_token.expand(tokens.shape[0], restore.shape[1] - tokens.shape[1], -1)
        tokens = take(torch.cat([tokens, hidden.to(tokens.dtype)], dim=1), restore) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        return self.decoder_pred(self.decoder_norm(tokens))

    def target(self, images: torch.Tensor) -> torch.Tensor:
        (n, c, _, _), (h, w) = images.shape, self.grid
        patches = images.reshape(n, c, h, 16, w, 16).permute(0, 2, 4, 3, 5, 1).reshape(n, h * w, 256 * c)
        if not self.norm_pix_loss:
            return patches
        return (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()


def take(tokens: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """(N, L, C), (N, K) → (N, K, C)"""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[-1]))


class RelativePositionBias(nn.Module):
    """(heads, L, L) looked up by a stored index: (dy + h−1)·(2w−1) + (dx + w−1), d = query − key."""

    def __init__(self, num_heads: int, grid: tuple[int, int]):
        super().__init__()
        h, w = grid
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * h - 1) * (2 * w - 1), num_heads))
        y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
        dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
        self.register_buffer("index", (dy + h - 1) * (2 * w - 1) + dx + w - 1, persistent=False)

    def forward(self) -> torch.Tensor:
        return self.relative_position_bias_table[self.index].permute(2, 0, 1)


class DetectionBackbone(Encoder):
    """E1–E4 for a detector; `windows`: for each block of stage 3 its (size, shift), None for global attention.

    Every block looks up its own bias, and partitions the tokens into its windows.
    """

    def __init__(self, *, windows: Sequence[tuple[int, int] | None], num_heads: int, grid: tuple[int, int], **encoder):
        super().__init__(num_heads=num_heads, grid=grid, **encoder)
        self.pos_embed.requires_grad_(True)
        self.windows = windows
        sizes = {window[0] for window in windows if window}
        if sizes:
            self.windowed_rel_pos_bias = RelativePositionBias(num_heads, (max(sizes), max(sizes)))
        if None in windows:
            self.global_rel_pos_bias = RelativePositionBias(num_heads, grid)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """images (N, channels, H, W) → e1 (N, C1, H/4, W/4) … e4 (N, C3, H/32, W/32)"""
        e1, e2, tokens = self.convolutions(images)
        for block, window in zip(self.blocks3, self.windows, strict=True):
            tokens = block(tokens, attend=lambda x, a=block.attn, w=window: self.attend(a, x, w))
        e3 = tokens.transpose(1, 2).unflatten(2, self.grid)
        return {"e1": e1, "e2": e2, "e3": e3, "e4": F.max_pool2d(e3, 2)}

    def attend(self, attention: Attention, tokens: torch.Tensor, window: tuple[int, int] | None) -> torch.Tensor:
        """(N, L, C) → (N, L, C)"""
        if window is None:
            return attention(tokens, self.global_rel_pos_bias()[None])
        (size, shift), (h, w) = window, self.grid
        real = torch.ones(1, h * w, 1, device=tokens.device, dtype=tokens.dtype)
        keys = partition(real, self.grid, size, shift)[:, None, None, :, 0]
        mask = torch.zeros_like(keys).masked_fill(keys == 0, float("-inf")).repeat(tokens.shape[0], 1, 1, 1)
        windows = partition(tokens, self.grid, size, shift)
        windows = attention(windows, self.windowed_rel_pos_bias()[None] + mask)
        return unpartition(windows, self.grid, size, shift)


def partition(tokens: torch.Tensor, grid: tuple[int, int], size: int, shift: int) -> torch.Tensor:
    """(N, L, C) → (N·windows, size², C): zeros are put around the map until windows that begin at `shift` fit."""
    (n, _, c), (h, w), before = tokens.shape, grid, (size - shift) % size
    down, across = -(-(h + before) // size), -(-(w + before) // size)
    padded = tokens.new_zeros(n, down * size, across * size, c)
    padded[:, before : before + h, before : before + w] = tokens.view(n, h, w, c)
    return padded.view(n, down, size, across, size, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, c)


def unpartition(windows: torch.Tensor, grid: tuple[int, int], size: int, shift: int) -> torch.Tensor:
    (h, w), c, before = grid, windows.shape[-1], (size - shift) % size
    down, across = -(-(h + before) // size), -(-(w + before) // size)
    padded = windows.view(-1, down, across, size, size, c).permute(0, 1, 3, 2, 4, 5)
    padded = padded.reshape(-1, down * size, across * size, c)
    return padded[:, before : before + h, before : before + w].flatten(1, 2)
