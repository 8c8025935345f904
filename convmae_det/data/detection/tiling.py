"""Tiles of large annotated images to train on, and whole images for a detector that takes them in tiles."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from ...config.checks.rules import require
from ...config.checks.tiles import get_test_tile
from ...errors import InputError
from ..large_image import LargeImage
from ..tiles import Tile, list_tiles
from .annotation_file import find_geometry_problems
from .shape import UNUSABLE, Shape, describe_unusable, read_shape
from .summary import is_unusable

logger = logging.getLogger(__name__)

MOST_WHOLE = 4096  # pixels: longer side, at most, of what is read of a whole image that a detector takes in tiles


def compute_whole_side(cfg: CfgNode) -> int:
    """Computes how long, in pixels, the longer side of a whole image must be to be resized for a detector with tiles.

    It is 0 for one that takes images whole.
    """
    longest = cfg.TEST.AUG.MAX_SIZE if cfg.TEST.AUG.ENABLED else cfg.INPUT.MAX_SIZE_TEST
    tile = get_test_tile(cfg)
    return max(tile, min(longest, MOST_WHOLE)) if tile else 0


def build_tiled_input(image: LargeImage, augmentations: T.Augmentation, whole_side: int) -> dict[str, Any]:
    """Builds the input of a detector that takes images in tiles, see `inference.tiling`.

    Args:
        image: from which these will be read
        augmentations: that resize images
        whole_side: from :func:`compute_whole_side`: as much as is read of the whole image, if that is larger

    Returns:
        "large_image"; "image", (C, h, w) uint8, all of it as INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST say; "height"
        and "width" of the original
    """
    shrunk = convert_pixels(image.shrink(whole_side), augmentations)
    return {"large_image": image, "image": shrunk, "height": image.height, "width": image.width}


def convert_pixels(pixels: np.ndarray, augmentations: T.Augmentation) -> torch.Tensor:
    """Resizes (H, W, C) uint8 as the augmentations say, to a tensor (C, h, w)."""
    augmented = T.AugInput(pixels)
    augmentations(augmented)
    return torch.from_numpy(np.array(augmented.image.transpose(2, 0, 1), order="C"))


def cut_tiles(cfg: CfgNode, images: Sequence[dict]) -> list[dict]:
    """Cuts annotated images into the tiles that are trained on, in their order; their files stay whole.

    Tiles without an object are left out but for INPUT.EMPTY_TILES of them, which are always the same ones.

    Args:
        cfg: with INPUT.TILE
        images: in Detectron2's format

    Returns:
        The same for each tile: "height" and "width" are its own, "annotations" those of the objects of which it shows
        enough, clipped; "tile" is its place in the image, and "image_size" the (height, width) of that

    Raises:
        InputError: the size of an image isn't known, annotations can't be used, or no tile shows enough of an object.
    """
    size, overlap = cfg.INPUT.TILE, cfg.INPUT.TILE_OVERLAP
    cut = [tile for image in images for tile in _cut_image(image, size, overlap, cfg.INPUT.TILE_VISIBLE)]
    if "annotations" not in images[0]:
        return cut
    empty = [number for number, tile in enumerate(cut) if is_unusable(tile)]
    count = min(len(empty), round(cfg.INPUT.EMPTY_TILES * (len(cut) - len(empty))))
    if len(empty) == len(cut):
        must = f"be lower, since no tile of INPUT.TILE {size} pixels shows as much of an object"
        require(False, "INPUT.TILE_VISIBLE", cfg.INPUT.TILE_VISIBLE, must)
    left_out = set(empty) - set(np.random.default_rng(0).permutation(empty)[:count].tolist())
    logger.info(
        f"INPUT.TILE {size}: {len(images):,} images are {len(cut):,} tiles, {len(cut) - len(empty):,} of them with "
        f"objects; these and {count:,} empty ones are trained on"
    )
    return [tile for number, tile in enumerate(cut) if number not in left_out]


def _cut_image(image: dict, size: int, overlap: float, least: float) -> Iterator[dict]:
    """Yields the tiles of an image; the other arguments are INPUT.TILE, TILE_OVERLAP and TILE_VISIBLE."""
    whole = {key: value for key, value in image.items() if key != "sem_seg_file_name"}
    if not {"height", "width"} <= image.keys():
        raise InputError(f"{image['file_name']} is listed without height and width, which INPUT.TILE needs: add them")
    height, width = int(image["height"]), int(image["width"])
    objects = _read_objects(image, height, width)
    boxes = np.array([shape.box for _, shape in objects], dtype=float).reshape(-1, 4)
    for tile in list_tiles(height, width, size, overlap):
        cut = whole | {"tile": tile, "image_size": (height, width), "height": tile.height, "width": tile.width}
        if "annotations" in image:
            left, top, right, bottom = tile.box
            meets = (boxes[:, 0] < right) & (boxes[:, 1] < bottom) & (boxes[:, 2] > left) & (boxes[:, 3] > top)
            clipped = (_clip_object(*objects[number], tile, least) for number in np.flatnonzero(meets))
            cut["annotations"] = [annotation for annotation in clipped if annotation]
        yield cut


def _read_objects(image: dict, height: int, width: int) -> list[tuple[dict, Shape]]:
    """Reads the annotations of an image, each with its shape.

    Raises:
        InputError: one can't be used; names the image.
    """
    objects: list[tuple[dict, Shape]] = []
    try:
        for annotation in image.get("annotations", ()):
            for problem in find_geometry_problems(annotation, height, width):
                raise ValueError(f"an object {problem}")
            objects.append((annotation, read_shape(annotation)))
    except UNUSABLE as error:
        raise InputError(describe_unusable(image["file_name"], error)) from error
    return objects


def _clip_object(annotation: dict, shape: Shape, tile: Tile, least: float) -> dict | None:
    """Clips an object to a tile; None if the tile shows less than a share of it, or nothing."""
    clipped = shape.clip(tile)
    if not clipped.area or clipped.area < least * shape.area:
        return None
    x0, y0, x1, y1 = clipped.box
    kept = {key: value for key, value in annotation.items() if key != "segmentation"}
    kept |= {"bbox": [x0 - tile.left, y0 - tile.top, x1 - tile.left, y1 - tile.top], "bbox_mode": BoxMode.XYXY_ABS}
    mask = None if annotation.get("iscrowd", 0) else clipped.describe_mask(tile)
    return kept if mask is None else kept | {"segmentation": mask}
