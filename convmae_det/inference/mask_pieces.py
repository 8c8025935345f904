"""The mask head on some hundred objects at a time: its features of one object take a megabyte."""

from typing import Any

from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Instances
from torch import nn

from ..ops.choice import is_transformed
from ..ops.layers import Form

OBJECTS = 256  # of an image; more than Detectron2 returns unless told otherwise, whose numbers stay what they are


def predict_masks_in_pieces(model: nn.Module) -> None:
    """Lets the mask heads of a detector, in evaluation, take at most OBJECTS of an image at once."""
    for heads in model.modules():
        if isinstance(heads, StandardROIHeads):
            vars(heads)["_forward_mask"] = Form(_forward_mask, heads)


def _forward_mask(heads: Any, features: Any, instances: list[Instances]) -> Any:
    forward, most = type(heads)._forward_mask, max(map(len, instances), default=0)
    if heads.training or most <= OBJECTS or is_transformed():
        return forward(heads, features, instances)
    starts = range(0, most, OBJECTS)
    pieces = [forward(heads, features, [each[start : start + OBJECTS] for each in instances]) for start in starts]
    return [Instances.cat(list(parts)) for parts in zip(*pieces, strict=True)]
