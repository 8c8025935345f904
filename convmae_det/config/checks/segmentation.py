"""Rules about a segmentor: its head, and how its images are cropped, resized and cut into windows."""

from yacs.config import CfgNode

from .data import CHANNELS, FLIPS, MAX_SCALE, check_channels, check_labelled
from .model import FEATURES
from .rules import check_above, check_at_least, check_one_of, is_number, require

HEADS = ("UPerHead", "SemSegFPNHead")


def check_segmentor(cfg: CfgNode) -> None:
    """Checks the head, and that the value to be ignored is no class."""
    check_one_of(cfg, "MODEL.SEM_SEG_HEAD.NAME", HEADS)
    node = cfg.MODEL.SEM_SEG_HEAD
    check_at_least(cfg, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2)
    ignored, number = node.IGNORE_VALUE, node.NUM_CLASSES
    must = f"be none of the {number} classes, which are 0 to {number - 1}, such as 255"
    require(not 0 <= ignored < number, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", ignored, must)
    check_above(cfg, "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 0)
    if node.NAME == "UPerHead":
        check_upernet(cfg)


def check_upernet(cfg: CfgNode) -> None:
    """Checks MODEL.UPERNET, and what its head reads of MODEL.SEM_SEG_HEAD."""
    check_at_least(cfg, "MODEL.UPERNET.AUXILIARY_DIM", 0, " channels; 0 is without an auxiliary head")
    check_at_least(cfg, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 1, " channel")
    features = cfg.MODEL.CONVMAE.OUT_FEATURES
    must = "name all of e1, e2, e3 and e4 for MODEL.SEM_SEG_HEAD.NAME UPerHead"
    require(set(features) == set(FEATURES), "MODEL.CONVMAE.OUT_FEATURES", features, must)


def check_segmentation_input(cfg: CfgNode, is_train: bool) -> None:
    """Checks how a segmentor's images are read and augmented, in training or in evaluation."""
    check_labelled(cfg)
    check_channels(cfg)
    if not is_train:
        check_at_least(cfg, "INPUT.MIN_SIZE_TEST", 0, " pixels; 0 doesn't resize images")
        check_at_least(cfg, "INPUT.MAX_SIZE_TEST", 1, " pixel")
        check_windows_of_images(cfg)
        return
    check_one_of(cfg, "INPUT.RANDOM_FLIP", FLIPS)
    check_at_least(cfg, "INPUT.SEGMENTATION.CROP_SIZE", 1, " pixel")
    node = cfg.INPUT.SEGMENTATION
    check_above(cfg, "INPUT.SEGMENTATION.MIN_SCALE", 0)
    must = f"be at least INPUT.SEGMENTATION.MIN_SCALE, {node.MIN_SCALE}, and at most {MAX_SCALE}"
    holds = is_number(node.MAX_SCALE) and node.MIN_SCALE <= node.MAX_SCALE <= MAX_SCALE
    require(holds, "INPUT.SEGMENTATION.MAX_SCALE", node.MAX_SCALE, must)
    share = node.MAX_CLASS_SHARE
    holds = is_number(share) and 0 < share <= 1
    require(holds, "INPUT.SEGMENTATION.MAX_CLASS_SHARE", share, "be above 0 and at most 1")
    must = f"be False where INPUT.FORMAT is {cfg.INPUT.FORMAT}, for it changes colours"
    coloured = CHANNELS.get(cfg.INPUT.FORMAT) == 3
    require(coloured or not node.PHOTOMETRIC, "INPUT.SEGMENTATION.PHOTOMETRIC", node.PHOTOMETRIC, must)


def check_windows_of_images(cfg: CfgNode) -> None:
    """Checks TEST.SLIDING_WINDOW and TEST.SLIDING_STRIDE."""
    check_at_least(cfg, "TEST.SLIDING_WINDOW", 0, " pixels; 0 takes images whole")
    window, stride = cfg.TEST.SLIDING_WINDOW, cfg.TEST.SLIDING_STRIDE
    if window:
        must = f"be at least 1 pixel and at most TEST.SLIDING_WINDOW, {window}"
        require(is_number(stride) and 1 <= stride <= window, "TEST.SLIDING_STRIDE", stride, must)
