"""Masks of a mask head pasted into the image piece by piece, and kept as run lengths.

n objects; M, the side of what the head gives of each.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.modeling import GeneralizedRCNN, PanopticFPN
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import Instances, ROIMasks
from torch import nn

from ..data.run_length_masks import RunLengthMasks
from ..data.runs import Runs
from ..ops.layers import Form

PIECE = 2**20  # pixels that are pasted at once


def paste_in_pieces(model: nn.Module) -> None:
    """Lets a GeneralizedRCNN or PanopticFPN of Detectron2's give its masks as `RunLengthMasks`, and no other model."""
    forms = {GeneralizedRCNN.inference: _infer_objects, PanopticFPN.inference: _infer_segments}
    if form := forms.get(getattr(type(model), "inference", None)):
        vars(model)["inference"] = Form(form, model)


def _infer_objects(
    model: Any,
    batched_inputs: list[dict],
    detected_instances: list[Instances] | None = None,
    do_postprocess: bool = True,
) -> list[Any]:
    """Does what GeneralizedRCNN.inference does."""
    found = type(model).inference(model, batched_inputs, detected_instances, do_postprocess=False)
    if not do_postprocess:
        return found
    for instances in found:
        _keep_regions(instances)
    return type(model)._postprocess(found, batched_inputs, [instances.image_size for instances in found])


def _infer_segments(model: Any, batched_inputs: list[dict], do_postprocess: bool = True) -> Any:
    """Does what PanopticFPN.inference does."""
    detected, scores = type(model).inference(model, batched_inputs, do_postprocess=False)
    if not do_postprocess:
        return detected, scores
    results = []
    for image, instances, classes in zip(batched_inputs, detected, scores, strict=True):
        _keep_regions(instances)
        size = image.get("height", instances.image_size[0]), image.get("width", instances.image_size[1])
        classes = sem_seg_postprocess(classes, instances.image_size, *size)
        instances = detector_postprocess(instances, *size)
        segments = combine_semantic_and_instance_outputs(
            _let_draw(instances),
            classes.argmax(dim=0),
            model.combine_overlap_thresh,
            model.combine_stuff_area_thresh,
            model.combine_instances_score_thresh,
        )
        results.append({"sem_seg": classes, "instances": instances, "panoptic_seg": segments})
    return results


def _keep_regions(instances: Instances) -> None:
    """Lets Detectron2's postprocessing make run lengths of the masks that a mask head has found, (n, 1, M, M)."""
    if instances.has("pred_masks"):
        instances.pred_masks = RegionMasks(instances.pred_masks[:, 0])


def _let_draw(instances: Instances) -> Instances:
    """Copies objects, for Detectron2's joining of objects and stuff, which takes their masks one by one."""
    fields = instances.get_fields()
    return Instances(instances.image_size, **fields | {"pred_masks": DrawnMasks(instances.pred_masks)})


class DrawnMasks:
    """Masks in run lengths, each of which is drawn on a device when it is taken."""

    def __init__(self, masks: RunLengthMasks, device: torch.device | str = "cpu"):
        self.masks, self.device = masks, device

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, number: Any) -> torch.Tensor:
        return self.masks[number].to(self.device)

    def to(self, *, dtype: torch.dtype, device: torch.device) -> "DrawnMasks":
        return DrawnMasks(self.masks, device)


class RegionMasks(ROIMasks):
    """Masks of boxes, (n, M, M), which Detectron2's postprocessing turns into `RunLengthMasks` in place of a tensor."""

    def __getitem__(self, item: Any) -> "RegionMasks":
        return RegionMasks(super().__getitem__(item).tensor)

    def to_bitmasks(self, boxes: Any, height: int, width: int, threshold: float = 0.5) -> Any:
        return SimpleNamespace(tensor=paste_masks(self.tensor, boxes.tensor, (height, width), threshold))


def paste_masks(masks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold: float) -> RunLengthMasks:
    """Pastes masks into an image as Detectron2 does, with the same pixels, without ever holding all of them.

    Args:
        masks: (n, M, M) probabilities
        boxes: (n, 4) x0 y0 x1 y1 in pixels of the image
        size: (H, W) of the image
        threshold: from which on a pixel belongs to the object
    """
    windows = _find_windows(boxes, size)
    sides = windows[:, 2:] - windows[:, :2]
    order, start = np.argsort(-sides.max(1), kind="stable"), 0
    runs: dict[int, Runs] = {}
    while start < len(order):
        piece = order[start : start + max(1, PIECE // int(sides[order[start]].max()) ** 2)]
        few = torch.as_tensor(piece, device=masks.device)
        drawn = _paste_piece(masks[few], boxes[few], windows[piece], threshold)
        for number, mask in zip(piece.tolist(), drawn, strict=True):
            left, top, right, bottom = windows[number].tolist()
            runs[number] = Runs.from_mask(mask[: bottom - top, : right - left], top, left)
        start += len(piece)
    return RunLengthMasks([runs[number] for number in range(len(masks))], size)


def _find_windows(boxes: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Finds the pixels that each mask may cover, with one around its box as in Detectron2: (n, 4) x0 y0 x1 y1."""
    height, width = size
    least, most = (boxes[:, :2].floor() - 1).clamp(min=0), boxes[:, 2:].ceil() + 1
    most = torch.minimum(most, most.new_tensor((width, height)))
    return torch.cat((least, most), dim=1).long().cpu().numpy()


def _paste_piece(masks: torch.Tensor, boxes: torch.Tensor, windows: np.ndarray, threshold: float) -> np.ndarray:
    """Pastes k masks, each into its window: (k, h, w) bool, of the largest height and width among the windows."""
    width, height = (windows[:, 2:] - windows[:, :2]).max(0).tolist()
    x0, y0, x1, y1 = boxes.split(1, dim=1)  # (k, 1) each
    left, top = torch.as_tensor(windows[:, :2].T[..., None], dtype=torch.float32, device=boxes.device)
    x = left + torch.arange(width, dtype=torch.float32, device=boxes.device) + 0.5  # (k, w)
    y = top + torch.arange(height, dtype=torch.float32, device=boxes.device) + 0.5  # (k, h)
    x, y = (x - x0) / (x1 - x0) * 2 - 1, (y - y0) / (y1 - y0) * 2 - 1
    shape = (len(masks), height, width)
    grid = torch.stack((x[:, None, :].expand(shape), y[:, :, None].expand(shape)), dim=3)
    masks = masks if masks.is_floating_point() else masks.float()
    pasted = F.grid_sample(masks[:, None], grid.to(masks.dtype), align_corners=False)
    return (pasted[:, 0] >= threshold).cpu().numpy()
