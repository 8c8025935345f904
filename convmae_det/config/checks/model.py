"""Rules about MODEL."""

from operator import attrgetter

from yacs.config import CfgNode

from ..presets import PRESETS, STRIDE
from .rules import are_numbers, check_one_of, is_number, require

RELATIVE_POSITIONS = ("shared", "blocks", "decomposed", "none")
FEATURES = ("e1", "e2", "e3", "e4")
MASKINGS = ("block", "random")
# What Detectron2 has registered, but nothing here can train or evaluate.
IMPOSSIBLE = {
    "MODEL.META_ARCHITECTURE": {
        "ProposalNetwork": "be a detector with classes, such as GeneralizedRCNN",
    },
    "MODEL.PROPOSAL_GENERATOR.NAME": {
        "PrecomputedProposals": "be RPN, for proposals are not read from files",
        "RRPN": "be RPN, for boxes have no angle",
    },
    "MODEL.ANCHOR_GENERATOR.NAME": {
        "RotatedAnchorGenerator": "be DefaultAnchorGenerator, for boxes have no angle",
    },
    "MODEL.ROI_HEADS.NAME": {
        "Res5ROIHeads": "be StandardROIHeads or CascadeROIHeads, for there is no fifth stage of a ResNet",
        "RROIHeads": "be StandardROIHeads or CascadeROIHeads, for boxes have no angle",
    },
}


def check_architecture(cfg: CfgNode) -> None:
    """Checks that the parts of a detector which are chosen by name go together, and are for boxes and masks."""
    for key, reasons in IMPOSSIBLE.items():
        for name, must in reasons.items():
            require(attrgetter(key)(cfg) != name, key, name, must)
    heads, agnostic = cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG
    must = "be True where MODEL.ROI_HEADS.NAME is CascadeROIHeads"
    require(heads != "CascadeROIHeads" or agnostic, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", agnostic, must)
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
        for key in ("MODEL.MASK_ON", "MODEL.KEYPOINT_ON"):
            value = attrgetter(key)(cfg)
            must = "be False where MODEL.META_ARCHITECTURE is RetinaNet, which finds boxes alone"
            require(not value, key, value, must)


def check_encoder(cfg: CfgNode) -> None:
    """Checks the keys that describe the encoder."""
    node, compiles = cfg.MODEL.CONVMAE, cfg.MODEL.COMPILE
    known = isinstance(compiles, bool) or compiles in (None, "auto")
    require(known, "MODEL.COMPILE", compiles, "be True, False or auto")
    check_one_of(cfg, "MODEL.CONVMAE.ARCH", list(PRESETS))
    preset = PRESETS[node.ARCH]
    for key in ("EMBED_DIMS", "DEPTHS", "MLP_RATIOS"):
        values = getattr(node, key) or preset[key.lower()]
        valid = are_numbers(values, 3) and min(values) > 0
        require(valid, f"MODEL.CONVMAE.{key}", list(values), "be three positive numbers, one a stage")
    width, heads = (node.EMBED_DIMS or preset["embed_dims"])[2], node.NUM_HEADS or preset["num_heads"]
    must = f"divide the width of stage 3, which is {width}, the third of MODEL.CONVMAE.EMBED_DIMS"
    require(heads > 0 and width % heads == 0, "MODEL.CONVMAE.NUM_HEADS", heads, must)
    must = "end in a multiple of 4, which the sin-cos position embedding needs"
    require(width % 4 == 0, "MODEL.CONVMAE.EMBED_DIMS", list(node.EMBED_DIMS), must)
    check_pixels(cfg)
    kernel, rate = node.CONV_KERNEL_SIZE, node.DROP_PATH_RATE
    holds = is_number(kernel) and kernel > 0 and kernel % 2
    require(holds, "MODEL.CONVMAE.CONV_KERNEL_SIZE", kernel, "be odd and positive, such as 5")
    require(is_number(rate) and 0 <= rate < 1, "MODEL.CONVMAE.DROP_PATH_RATE", rate, "be at least 0 and below 1")
    check_pretraining_size(cfg)


def check_pixels(cfg: CfgNode) -> None:
    """Checks MODEL.PIXEL_MEAN and PIXEL_STD; their length is the model's number of channels."""
    mean, deviation = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    require(are_numbers(mean) and len(mean) > 0, "MODEL.PIXEL_MEAN", mean, "have a number for each channel")
    holds = are_numbers(deviation, len(mean)) and min(deviation) > 0
    require(holds, "MODEL.PIXEL_STD", deviation, f"have as many numbers as MODEL.PIXEL_MEAN, {len(mean)}, all above 0")


def check_backbone(cfg: CfgNode) -> None:
    """Checks the keys that describe the detector's backbone, except its encoder."""
    node = cfg.MODEL.CONVMAE
    check_size("MODEL.CONVMAE.IMAGE_SIZE", node.IMAGE_SIZE)
    check_one_of(cfg, "MODEL.CONVMAE.RELATIVE_POSITION", RELATIVE_POSITIONS)
    valid = node.OUT_FEATURES and set(node.OUT_FEATURES) <= set(FEATURES)
    require(valid, "MODEL.CONVMAE.OUT_FEATURES", node.OUT_FEATURES, f"name some of {', '.join(FEATURES)}")
    padded = node.SQUARE_PAD
    require(padded >= 0 and padded % 32 == 0, "MODEL.CONVMAE.SQUARE_PAD", padded, "be 0 or a multiple of 32 pixels")
    key = "TEST.AUG.MAX_SIZE" if cfg.TEST.AUG.ENABLED else "INPUT.MAX_SIZE_TEST"
    largest = max(attrgetter(key)(cfg), cfg.INPUT.LSJ.IMAGE_SIZE if cfg.INPUT.LSJ.ENABLED else 0)
    must = f"be 0, or at least as large as images are by {key} and INPUT.LSJ.IMAGE_SIZE, {largest} pixels"
    require(padded == 0 or padded >= largest, "MODEL.CONVMAE.SQUARE_PAD", padded, must)
    level = node.PAD_VALUE
    holds = is_number(level) and (level == -1 or 0 <= level <= 255)
    require(holds, "MODEL.CONVMAE.PAD_VALUE", level, "lie between 0 and 255, or be -1 for zeros after normalisation")
    require(node.FREEZE_STAGES in range(4), "MODEL.CONVMAE.FREEZE_STAGES", node.FREEZE_STAGES, "be 0, 1, 2 or 3")
    check_windows(cfg)


def check_windows(cfg: CfgNode) -> None:
    """Checks the schedule of windows in stage 3."""
    node = cfg.MODEL.CONVMAE
    depth = (node.DEPTHS or PRESETS[node.ARCH]["depths"])[2]
    holds = all(0 <= index < depth for index in node.GLOBAL_BLOCKS)
    must = f"name blocks of stage 3, 0 to {depth - 1}"
    require(holds, "MODEL.CONVMAE.GLOBAL_BLOCKS", node.GLOBAL_BLOCKS, must)
    require(node.WINDOW_SIZE >= 1, "MODEL.CONVMAE.WINDOW_SIZE", node.WINDOW_SIZE, "be at least 1 token, such as 7")


def check_masked_autoencoder(cfg: CfgNode) -> None:
    """Checks masking and the decoder."""
    node = cfg.MODEL.MAE
    require(0 < node.MASK_RATIO < 1, "MODEL.MAE.MASK_RATIO", node.MASK_RATIO, "lie between 0 and 1, such as 0.75")
    check_one_of(cfg, "MODEL.MAE.MASKING", MASKINGS)
    if node.MASKING != "block":
        must = "be False unless MODEL.MAE.MASKING is block"
        require(not node.COMPLEMENTARY_MASKS, "MODEL.MAE.COMPLEMENTARY_MASKS", node.COMPLEMENTARY_MASKS, must)
        must = "be True unless MODEL.MAE.MASKING is block"
        require(node.MASKED_CONV, "MODEL.MAE.MASKED_CONV", node.MASKED_CONV, must)
    dim, heads = node.DECODER_EMBED_DIM, node.DECODER_NUM_HEADS
    require(dim > 0 and dim % 4 == 0, "MODEL.MAE.DECODER_EMBED_DIM", dim, "be a positive multiple of 4")
    must = f"divide MODEL.MAE.DECODER_EMBED_DIM, {dim}"
    require(heads > 0 and dim % heads == 0, "MODEL.MAE.DECODER_NUM_HEADS", heads, must)
    require(node.DECODER_DEPTH >= 0, "MODEL.MAE.DECODER_DEPTH", node.DECODER_DEPTH, "be at least 0 blocks")
    ratio = node.DECODER_MLP_RATIO
    require(ratio >= 0, "MODEL.MAE.DECODER_MLP_RATIO", ratio, "be above 0, or 0 for that of the encoder's stage 1")


def check_classifier(cfg: CfgNode) -> None:
    """Checks MODEL.CLASSIFIER."""
    number, smoothing = cfg.MODEL.CLASSIFIER.NUM_CLASSES, cfg.MODEL.CLASSIFIER.LABEL_SMOOTHING
    require(is_number(number) and number >= 2, "MODEL.CLASSIFIER.NUM_CLASSES", number, "be at least 2")
    holds = is_number(smoothing) and 0 <= smoothing < 1
    require(holds, "MODEL.CLASSIFIER.LABEL_SMOOTHING", smoothing, "be at least 0 and below 1, such as 0.1")


def check_pretraining_size(cfg: CfgNode) -> None:
    """Checks the size of the crops of pretraining: a side, or height and width."""
    key, size = "MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE
    if not isinstance(size, (list, tuple)):
        check_size(key, size)
        return
    holds = are_numbers(size, 2) and all(type(side) is int and side > 0 and side % STRIDE == 0 for side in size)
    require(holds, key, size, f"be one number, or height and width, each a positive multiple of {STRIDE} pixels")


def check_size(key: str, size: int) -> None:
    """Checks the side of a square image, the value of `key`: stage 3 cuts it into patches."""
    holds = is_number(size) and size > 0 and size % STRIDE == 0
    require(holds, key, size, f"be a positive multiple of {STRIDE} pixels")
