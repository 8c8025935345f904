"""AdamW with layer-wise learning rates, LARS for linear probes, and gradient clipping.

The rate of encoder layer l is BASE_LR · LAYER_DECAY ** (depth + 1 − l), where depth is the number of stage-3 blocks:
the convolution stages, which see the image first, learn slowest, and everything above the encoder at the full rate.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from detectron2.config import CfgNode
from tabulate import tabulate
from timm.optim import Lars
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

logger = logging.getLogger(__name__)

# Parameters with more than one axis that are offsets like biases, by the last part of their name.
UNDECAYED = ("table", "rel_pos_h", "rel_pos_w", "mask_token")
LARS_MOMENTUM = 0.9


def find_layer(name: str, depth: int) -> int:
    """Finds the layer of a parameter, for layer-wise decay of the learning rate.

    Bias tables that serve all blocks count as the last one.

    Args:
        name: of the parameter in the model
        depth: number of stage-3 blocks

    Returns:
        0 (stages 1 and 2, stage 3's embeddings), 1 to `depth` (stage 3's blocks), or depth + 1 (what follows)

    Raises:
        ValueError: an encoder parameter that this mapping doesn't know.
    """
    path = name.split(".")
    if "encoder" not in path:
        return depth + 1
    match path[path.index("encoder") + 1 :]:
        case ["stage1" | "stage2", *_] | ["stage3", "patch_embed" | "linear" | "position_embedding", *_]:
            return 0
        case ["stage3", "blocks" | "block_biases", index, *_]:
            return int(index) + 1
        case ["stage3", "local_bias" | "global_bias", *_]:
            return depth
        case ["norm", *_]:
            return depth + 1
    raise ValueError(f"no layer is known for the encoder's parameter {name}")


def count_encoder_blocks(names: Iterable[str]) -> int:
    """Counts the stage-3 blocks among parameters of these names; 0 without an encoder."""
    blocks = (name.split("encoder.stage3.blocks.")[1] for name in names if "encoder.stage3.blocks." in name)
    return max((int(block.split(".")[0]) + 1 for block in blocks), default=0)


def is_decayed(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay applies: not to norms, biases and other vectors, position tables and tokens."""
    return parameter.ndim > 1 and name.split(".")[-1] not in UNDECAYED


def build_parameter_groups(model: nn.Module, *, lr: float, weight_decay: float, layer_decay: float) -> list[dict]:
    """Builds one group for every layer, decayed or not, from the first layer up, without frozen parameters.

    Returns:
        dicts with `params`, `lr`, `weight_decay`, and `name` for the log.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    depth = count_encoder_blocks(name for name, _ in model.named_parameters())
    members = defaultdict(list)
    for name, parameter in parameters.items():
        members[find_layer(name, depth), is_decayed(name, parameter)].append(parameter)
    return [
        {
            "name": ("above the encoder" if layer > depth else f"layer {layer}") + ("" if decayed else ", undecayed"),
            "params": members[layer, decayed],
            "lr": lr * layer_decay ** (depth + 1 - layer),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for layer, decayed in sorted(members)
    ]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Builds SOLVER.OPTIMIZER over :func:`build_parameter_groups`, whose learning rates are logged."""
    solver = cfg.SOLVER
    groups = build_parameter_groups(
        model, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, layer_decay=solver.LAYER_DECAY
    )
    rows = [
        (group["name"], f"{sum(p.numel() for p in group['params']):,}", f"{group['lr']:.4g}", group["weight_decay"])
        for group in groups
    ]
    headers = ["group", "parameters", "learning rate", "weight decay"]
    table = tabulate(rows, headers, disable_numparse=True, colalign=("left", "right", "right", "right"))
    highest = max((group["lr"] for group in groups), default=0.0)
    logger.info(f"{solver.OPTIMIZER}: {len(groups)} groups of parameters, learning rates up to {highest:.4g}")
    logger.debug(f"{solver.OPTIMIZER}, after the warm-up:\n{table}")
    if solver.OPTIMIZER == "LARS":
        return build_lars(groups, solver.BASE_LR)
    # where supported, one kernel reads weights, gradients and moments once
    fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), fused=fused)


def build_lars(groups: list[dict], lr: float) -> Lars:
    """Builds LARS (arXiv 1708.03888) as for MAE's linear probe: what has no weight decay has a plain step, too."""
    for group in groups:
        group["always_adapt"] = all(p.ndim > 1 for p in group["params"])
    return Lars(groups, lr=lr, momentum=LARS_MOMENTUM)


def build_gradient_clipper(cfg: CfgNode) -> Callable[[list[nn.Parameter]], object] | None:
    """Builds the function that clips gradients as SOLVER.CLIP_GRADIENTS says; None if it is disabled.

    CLIP_TYPE `value` limits every entry, `norm` the norm of each parameter, `full_model` that of all together.
    """
    node = cfg.SOLVER.CLIP_GRADIENTS
    if not node.ENABLED:
        return None
    if node.CLIP_TYPE == "value":
        return lambda parameters: clip_grad_value_(parameters, node.CLIP_VALUE)
    if node.CLIP_TYPE == "full_model":
        return lambda parameters: clip_grad_norm_(parameters, node.CLIP_VALUE, node.NORM_TYPE)

    def clip_each(parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            clip_grad_norm_(parameter, node.CLIP_VALUE, node.NORM_TYPE)

    return clip_each
