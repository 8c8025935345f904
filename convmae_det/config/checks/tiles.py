"""Rules about the tiles of large images, on which a detector is trained, and in which it takes them."""

from operator import attrgetter

from yacs.config import CfgNode

from ..architectures import is_panoptic
from .rules import check_at_least, is_number, require

OF_TRAINING = -1  # TEST.TILE auto: that of INPUT.TILE
LEAST = 32  # pixels: the coarsest stride of a detector
TEST_OVERLAP = 0.2  # by default
MOST_OVERLAP = 0.9  # of a tile's side: each pixel is then in a hundred tiles
ALONE = {"TILE_OVERLAP": 0.2, "TILE_VISIBLE": 0.25, "EMPTY_TILES": 0.1}  # keys of INPUT that go with INPUT.TILE


def get_test_tile(cfg: CfgNode) -> int:
    """Returns the side in pixels of the tiles that images are evaluated and predicted in; 0: they are taken whole."""
    return cfg.INPUT.TILE if cfg.TEST.TILE == OF_TRAINING else cfg.TEST.TILE


def check_tiles(cfg: CfgNode, is_train: bool) -> None:
    """Checks how images are cut into tiles, in training or in evaluation."""
    if is_train:
        _check_training_tiles(cfg)
        return
    tile = cfg.TEST.TILE
    must = f"be at least {LEAST} pixels; 0 takes images whole, and -1, or auto, is INPUT.TILE"
    require(isinstance(tile, int) and (tile in (OF_TRAINING, 0) or tile >= LEAST), "TEST.TILE", tile, must)
    _check_share(cfg, "TEST.TILE_OVERLAP", MOST_OVERLAP)
    if get_test_tile(cfg):
        _check_detector(cfg, "TEST.TILE", tile)
    elif tile == OF_TRAINING:  # where TEST.TILE is 0, a run that had tiles is tried without: what is idle is told
        overlap, must = cfg.TEST.TILE_OVERLAP, f"stay {TEST_OVERLAP} where images are taken whole: set TEST.TILE, too"
        require(overlap == TEST_OVERLAP, "TEST.TILE_OVERLAP", overlap, must)


def _check_training_tiles(cfg: CfgNode) -> None:
    tile = cfg.INPUT.TILE
    must = f"be at least {LEAST} pixels; 0 takes images whole"
    require(isinstance(tile, int) and (tile == 0 or tile >= LEAST), "INPUT.TILE", tile, must)
    if not tile:
        for name, default in ALONE.items():
            value = attrgetter(name)(cfg.INPUT)
            require(value == default, f"INPUT.{name}", value, f"stay {default} where INPUT.TILE is 0: set both")
        return
    _check_share(cfg, "INPUT.TILE_OVERLAP", MOST_OVERLAP)
    _check_share(cfg, "INPUT.TILE_VISIBLE", 1)
    check_at_least(cfg, "INPUT.EMPTY_TILES", 0, "; 0 leaves out tiles without an object")
    _check_detector(cfg, "INPUT.TILE", tile)
    share = cfg.DATASETS.TRAIN_SHARE
    must = "be 1 where INPUT.TILE is set, since it would choose tiles, not images"
    require(share == 1, "DATASETS.TRAIN_SHARE", share, must)


def _check_share(cfg: CfgNode, key: str, most: float) -> None:
    value = attrgetter(key)(cfg)
    require(is_number(value) and 0 <= value <= most, key, value, f"lie between 0 and {most}")


def _check_detector(cfg: CfgNode, key: str, tile: int) -> None:
    """Checks that what the detector finds can be cut and merged."""
    fits = not is_panoptic(cfg) and not cfg.MODEL.KEYPOINT_ON
    require(fits, key, tile, "be 0 for MODEL.META_ARCHITECTURE PanopticFPN and for keypoints, which aren't merged")
