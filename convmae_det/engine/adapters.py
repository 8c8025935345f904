"""Low-rank adapters (LoRA, arXiv 2106.09685), which are trained beside an encoder's layers in place of its weights.

Beside a layer x → W x + b runs x → B A x, with A (rank, in) random and B (out, rank) zero at first. Their product is
added to W in the weights that a run writes (checkpoint/adapters.py), so that nothing but training knows of adapters.
The layers are peft's.
"""

import re

from torch import nn

from ..errors import InputError
from ..modeling.blocks import ConvBlock, TransformerBlock

TABLE = r"bias(es\.\d+)?\.table$|rel_pos_[hw]$"  # relative positions, which most weights to begin with lack


def add_adapters(encoder: nn.Module, rank: int) -> int:
    """Adds adapters beside the linear layers in the blocks of an encoder, in place, and freezes all else.

    Tables of relative positions remain trained. What was frozen before gets no adapters, and stays frozen.

    Returns:
        The number of layers that have adapters now.

    Raises:
        InputError: all of the encoder was frozen.
    """
    from peft import LoraConfig, inject_adapter_in_model  # seconds, and an extra

    layers = [
        f"{block}.{name}"
        for block, part in encoder.named_modules()
        if isinstance(part, (ConvBlock, TransformerBlock))
        for name, layer in part.named_modules()
        if isinstance(layer, nn.Linear) and layer.weight.requires_grad
    ]
    if not layers:
        raise InputError("the encoder is frozen, so that adapters (LoRA) have no layer to be beside: freeze less of it")
    tables = [table for name, table in encoder.named_parameters() if re.search(TABLE, name) and table.requires_grad]
    # alpha / r is what the product is multiplied by: 1
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), encoder)
    for table in tables:
        table.requires_grad_(True)
    return len(layers)
