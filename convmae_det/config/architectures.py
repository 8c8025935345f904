"""What each META_ARCHITECTURE of Detectron2 or ours is for."""

from yacs.config import CfgNode

# Where each of Detectron2's architectures looks for its number of classes.
CLASS_KEYS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "PanopticFPN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
}


def is_detector(cfg: CfgNode) -> bool:
    """Whether the configuration describes a detector."""
    return cfg.MODEL.META_ARCHITECTURE != "MaskedAutoencoder"
