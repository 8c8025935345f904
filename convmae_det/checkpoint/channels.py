"""Weights for images of some channels, made weights for images of others: RGB to n bands.

Channels of file and model are matched in turn, R G B R G …. Where the model has more, those that share a channel of the
file share its weights; where it has fewer, weights are added up. So where each channel of an image equals the one that
it is matched with, as in a grey image, the first layer computes what it did.
"""

import re

import torch

PATCH = 4, 16  # pixels along the side of a patch of the first layer, and of what the decoder predicts


def match_channels(model: int, file: int) -> torch.Tensor:
    """Matches channels in turn: (model, file) float32, 1 where two are matched, else 0."""
    fewer = min(model, file)
    return (torch.arange(model)[:, None] % fewer == torch.arange(file) % fewer).float()


def adapt_channels(name: str, tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Adapts the first layer, or the last one of the decoder, to the channels of a model.

    Args:
        name: of the parameter, in the model
        tensor: (C, 4·4·file's channels) of the first layer; (16·16·file's channels, …) of the decoder's last
        shape: the same with the model's channels

    Returns:
        The weights, or None where more than the channels differs, or the parameter has none.
    """
    first, last = (re.search(pattern, name) for pattern in (r"stage1\.patch_embed\.proj\.weight$", r"^decoder\.pred\."))
    axis, side = (1, PATCH[0]) if first else (0, PATCH[1])
    if not (first or last) or tensor.ndim != len(shape) or tensor.ndim <= axis:
        return None
    file, model = tensor.shape[axis] // side**2, shape[axis] // side**2
    alike = [size if i != axis else side**2 * model for i, size in enumerate(tensor.shape)] == list(shape)
    if not alike or not min(file, model) or tensor.shape[axis] % side**2:
        return None
    matched = match_channels(model, file)
    shares = matched / matched.sum(0 if first else 1, keepdim=True)
    channels = tensor.float().movedim(axis, -1).unflatten(-1, (side**2, file))
    return (channels @ shares.T).flatten(-2).movedim(-1, axis).to(tensor.dtype).contiguous()
