"""Rules about a panoptic FPN: its heads, and how its data are described."""

from yacs.config import CfgNode

from .model import check_architecture
from .rules import check_above, check_at_least, is_number, require


def check_panoptic(cfg: CfgNode) -> None:
    """Checks the heads, and that the value to be ignored is no class."""
    check_architecture(cfg)
    window = cfg.TEST.SLIDING_WINDOW
    require(window == 0, "TEST.SLIDING_WINDOW", window, "be 0 for a panoptic FPN, which takes images whole")
    for key, value, needed in (
        ("MODEL.MASK_ON", cfg.MODEL.MASK_ON, True),
        ("MODEL.KEYPOINT_ON", cfg.MODEL.KEYPOINT_ON, False),
        ("MODEL.PANOPTIC_FPN.COMBINE.ENABLED", cfg.MODEL.PANOPTIC_FPN.COMBINE.ENABLED, True),
        ("MODEL.SEM_SEG_HEAD.NAME", cfg.MODEL.SEM_SEG_HEAD.NAME, "SemSegFPNHead"),
        ("DATASETS.CROWD_AS_OBJECTS", cfg.DATASETS.CROWD_AS_OBJECTS, False),
    ):
        require(value == needed, key, value, f"be {needed} where MODEL.META_ARCHITECTURE is PanopticFPN")
    check_at_least(cfg, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2, ": all things, and the stuff")
    ignored, number = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    must = f"lie above the {number} classes, which are 0 to {number - 1}, and be at most 255"
    require(number <= ignored <= 255, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", ignored, must)
    for name in ("SEM_SEG_HEAD.LOSS_WEIGHT", "PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT"):
        check_above(cfg, f"MODEL.{name}", 0)
    combine = cfg.MODEL.PANOPTIC_FPN.COMBINE
    for name in ("OVERLAP_THRESH", "INSTANCES_CONFIDENCE_THRESH"):
        value = combine[name]
        holds = is_number(value) and 0 <= value <= 1
        require(holds, f"MODEL.PANOPTIC_FPN.COMBINE.{name}", value, "lie between 0 and 1")
    check_at_least(cfg, "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 0, " pixels")
    if cfg.DATASETS.PANOPTIC:
        must = "be bitmask for DATASETS.PANOPTIC, whose objects are pixels"
        require(cfg.INPUT.MASK_FORMAT == "bitmask", "INPUT.MASK_FORMAT", cfg.INPUT.MASK_FORMAT, must)
