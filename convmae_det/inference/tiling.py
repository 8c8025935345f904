"""A detector that takes large images in tiles, as it was trained on, and as a whole for objects that no tile holds.

n objects in an image of H×W pixels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from torch import nn
from tqdm import tqdm

from ..config.checks.tiles import get_test_tile
from ..data.detection.jitter import build_augmentations
from ..data.detection.tiling import convert_pixels
from ..data.run_length_masks import RunLengthMasks
from ..data.runs import Runs
from ..data.tiles import Tile, list_tiles
from .merging import WHOLE, Found, Part, merge_parts

WHOLE_SIDE = 2048  # pixels: longer side, at most, at which masks of the whole image are drawn before they are enlarged
SHOWN_FROM = 16  # tiles of an image from which on its progress is shown


def tile_predictions(cfg: CfgNode, model: nn.Module, batch_size: int = 1) -> nn.Module:
    """Returns the detector as TEST.TILE says: in tiles, `batch_size` at once, or as it is.

    Raises:
        InputError: tiles that can't be cut.
    """
    augmentations = T.AugmentationList(build_augmentations(cfg, is_train=False))  # checks the keys, too
    tile = get_test_tile(cfg)
    if not tile:
        return model
    return TiledDetector(model, augmentations, tile, cfg.TEST.TILE_OVERLAP, batch_size).train(model.training)


class TiledDetector(nn.Module):
    """Finds what its detector finds in the tiles of an image, and in the image as a whole, each object once.

    An image that fits into a tile it hands on as it is. Of others it needs memory for some tiles, for what was found,
    and for the image itself only where its format makes that necessary.
    """

    def __init__(self, model: nn.Module, augmentations: T.Augmentation, tile: int, overlap: float, batch_size: int = 1):
        """Takes a detector, how its images are resized, and the tiles.

        Args:
            model: of Detectron2's kind
            augmentations: of an image, and so of a tile
            tile: side in pixels
            overlap: see :func:`~..data.tiles.list_tiles`
            batch_size: tiles that pass the model at once
        """
        super().__init__()
        self.model, self.augmentations = model, augmentations
        self.tile, self.overlap, self.batch_size = tile, overlap, batch_size

    def forward(self, batch: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Takes inputs of `data.detection.tiling.build_tiled_input`.

        Returns:
            For each "instances", on the CPU if it has several tiles: pred_boxes, scores, pred_classes and, of a
            detector with masks, pred_masks, `RunLengthMasks`
        """
        return [self._detect(entry) for entry in batch]

    def _detect(self, entry: dict[str, Any]) -> dict[str, Instances]:
        image = Tile(0, 0, entry["height"], entry["width"])
        tiles = list_tiles(image.height, image.width, self.tile, self.overlap)
        if len(tiles) == 1:
            return self.model([{key: value for key, value in entry.items() if key != "large_image"}])[0]
        whole = self._detect_whole(entry, image)
        parts = [*_read_parts(whole, WHOLE, image), *self._detect_parts(entry, tiles)]
        found = merge_parts(parts, [*tiles, image])
        return {"instances": _build_instances(found, (image.height, image.width), whole.has("pred_masks"))}

    def _detect_whole(self, entry: dict[str, Any], image: Tile) -> Instances:
        """Finds objects in the whole image, at a size at which memory allows to draw their masks."""
        scale = min(1, WHOLE_SIDE / max(image.height, image.width))
        height, width = (max(1, round(scale * side)) for side in (image.height, image.width))
        return self.model([{"image": entry["image"], "height": height, "width": width}])[0]["instances"].to("cpu")

    def _detect_parts(self, entry: dict[str, Any], tiles: Sequence[Tile]) -> Iterator[Part]:
        hidden = None if len(tiles) >= SHOWN_FROM else True
        with tqdm(total=len(tiles), unit=" tiles", leave=False, disable=hidden) as progress:
            for start in range(0, len(tiles), self.batch_size):
                few = tiles[start : start + self.batch_size]
                outputs = self.model([self._cut(entry, tile) for tile in few])
                for number, (tile, output) in enumerate(zip(few, outputs, strict=True), start):
                    yield from _read_parts(output["instances"].to("cpu"), number, tile)
                progress.update(len(few))

    def _cut(self, entry: dict[str, Any], tile: Tile) -> dict[str, Any]:
        pixels = entry["large_image"].read(tile)
        return {"image": convert_pixels(pixels, self.augmentations), "height": tile.height, "width": tile.width}


def _read_parts(instances: Instances, number: int, view: Tile) -> Iterator[Part]:
    """Reads what was found in a view, which may have been drawn at another size."""
    size, view_size = instances.image_size, (view.height, view.width)
    boxes = instances.pred_boxes.tensor.double().numpy()
    placed = boxes * np.tile(np.divide(view_size, size)[::-1], 2) + np.tile((view.left, view.top), 2)
    masks = None
    if instances.has("pred_masks"):
        masks = RunLengthMasks.from_masks(instances.pred_masks, size)
        masks = masks.resize(view_size) if size != view_size else masks
    for index in range(len(instances)):
        box = tuple(placed[index].tolist())
        mask = masks.runs[index].move(view.top, view.left) if masks else Runs.from_box(box)
        yield Part(number, int(instances.pred_classes[index]), float(instances.scores[index]), box, mask)


def _build_instances(found: Sequence[Found], size: tuple[int, int], has_masks: bool) -> Instances:
    fields: dict[str, Any] = {
        "pred_boxes": Boxes(torch.tensor([one.box for one in found], dtype=torch.float32).reshape(-1, 4)),
        "scores": torch.tensor([one.score for one in found], dtype=torch.float32),
        "pred_classes": torch.tensor([one.label for one in found], dtype=torch.int64),
    }
    if has_masks:
        fields["pred_masks"] = RunLengthMasks([one.mask for one in found], size)
    return Instances(size, **fields)
