"""What each META_ARCHITECTURE of Detectron2 or ours is for."""

from yacs.config import CfgNode

# All architectures but these are detectors.
AUTOENCODER, CLASSIFIER, SEGMENTOR = "MaskedAutoencoder", "ImageClassifier", "SemanticSegmentor"
PANOPTIC = "PanopticFPN"  # a detector that gives each pixel a class, too
DETECTORS = ("GeneralizedRCNN", PANOPTIC, "RetinaNet")

# Where each architecture looks for its number of classes.
CLASS_KEYS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    PANOPTIC: "MODEL.ROI_HEADS.NUM_CLASSES",  # of the things; those of the stuff: MODEL.SEM_SEG_HEAD.NUM_CLASSES
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
    CLASSIFIER: "MODEL.CLASSIFIER.NUM_CLASSES",
    SEGMENTOR: "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
}


def is_autoencoder(cfg: CfgNode) -> bool:
    """Whether the configuration describes what pretraining trains."""
    return cfg.MODEL.META_ARCHITECTURE == AUTOENCODER


def is_classifier(cfg: CfgNode) -> bool:
    """Whether the configuration describes a classifier of whole images."""
    return cfg.MODEL.META_ARCHITECTURE == CLASSIFIER


def is_segmentor(cfg: CfgNode) -> bool:
    """Whether the configuration describes a network that gives each pixel a class."""
    return cfg.MODEL.META_ARCHITECTURE == SEGMENTOR


def is_panoptic(cfg: CfgNode) -> bool:
    """Whether the configuration describes a detector that gives each pixel a class, too."""
    return cfg.MODEL.META_ARCHITECTURE == PANOPTIC


def is_detector(cfg: CfgNode) -> bool:
    """Whether the configuration describes a detector."""
    return cfg.MODEL.META_ARCHITECTURE not in (AUTOENCODER, CLASSIFIER, SEGMENTOR)


def has_backbone(cfg: CfgNode) -> bool:
    """Whether the encoder is that of a backbone, which detectors and segmentors have."""
    return is_detector(cfg) or is_segmentor(cfg)


def needs_pairs(cfg: CfgNode) -> bool:
    """Whether passes of training need more than one image: to mix two, or for batch norms of a probe or of UPerHead."""
    node = cfg.INPUT.CLASSIFICATION
    pools = is_segmentor(cfg) and cfg.MODEL.SEM_SEG_HEAD.NAME == "UPerHead"
    return pools or (is_classifier(cfg) and bool(node.MIXUP or node.CUTMIX or cfg.MODEL.CLASSIFIER.PROBE))
