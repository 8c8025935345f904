"""What each META_ARCHITECTURE of Detectron2 or ours is for."""

from yacs.config import CfgNode

AUTOENCODER, CLASSIFIER, SEGMENTOR = "MaskedAutoencoder", "ImageClassifier", "SemanticSegmentor"
DETECTORS = ("GeneralizedRCNN", "PanopticFPN", "RetinaNet")

# Where each architecture looks for its number of classes.
CLASS_KEYS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "PanopticFPN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
    CLASSIFIER: "MODEL.CLASSIFIER.NUM_CLASSES",
}


def is_autoencoder(cfg: CfgNode) -> bool:
    """Whether the configuration describes what pretraining trains."""
    return cfg.MODEL.META_ARCHITECTURE == AUTOENCODER


def is_classifier(cfg: CfgNode) -> bool:
    """Whether the configuration describes a classifier of whole images."""
    return cfg.MODEL.META_ARCHITECTURE == CLASSIFIER


def is_detector(cfg: CfgNode) -> bool:
    """Whether the configuration describes a detector."""
    return not is_autoencoder(cfg) and not is_classifier(cfg)


def needs_pairs(cfg: CfgNode) -> bool:
    """Whether each pass of training needs an even number of images: to mix two, or for the batch norm of a probe."""
    node = cfg.INPUT.CLASSIFICATION
    return is_classifier(cfg) and bool(node.MIXUP or node.CUTMIX or cfg.MODEL.CLASSIFIER.PROBE)
