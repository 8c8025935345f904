"""Rules about how many objects a detector finds in an image, and which of those that overlap it keeps."""

from yacs.config import CfgNode

from .rules import check_above, is_number, require

COCO_LIMIT = 100  # detections that COCO's metrics count, and that Detectron2 returns unless told otherwise
SOFT_METHODS = ("", "linear", "gaussian")


def check_detections(cfg: CfgNode) -> None:
    """Checks that a detector can return as many objects as TEST.DETECTIONS_PER_IMAGE, and MODEL.ROI_HEADS.SOFT_NMS."""
    key, number = "TEST.DETECTIONS_PER_IMAGE", cfg.TEST.DETECTIONS_PER_IMAGE
    require(is_number(number) and number >= 1, key, number, "be at least 1")
    if number > COCO_LIMIT:
        if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
            node, kind = cfg.MODEL.RETINANET, "MODEL.RETINANET.TOPK_CANDIDATES_TEST"
            found = node.TOPK_CANDIDATES_TEST * len(node.IN_FEATURES)
            _require_source(number <= found, number, f"{kind} × {len(node.IN_FEATURES)} levels", found, kind)
        else:
            _check_proposals(cfg, number)
    _check_soft_suppression(cfg)


def _check_proposals(cfg: CfgNode, number: int) -> None:
    node, levels = cfg.MODEL.RPN, len(cfg.MODEL.RPN.IN_FEATURES)
    kind = "MODEL.RPN.POST_NMS_TOPK_TEST"
    _require_source(number <= node.POST_NMS_TOPK_TEST, number, kind, node.POST_NMS_TOPK_TEST, kind)
    kind, found = "MODEL.RPN.PRE_NMS_TOPK_TEST", node.PRE_NMS_TOPK_TEST * levels
    _require_source(number <= found, number, f"{kind} × {levels} levels", found, kind)


def _require_source(holds: bool, number: int, source: str, found: int, key: str) -> None:
    must = f"be at most {found}, which is {source}, the regions that objects are looked for in: raise {key}, too"
    require(holds, "TEST.DETECTIONS_PER_IMAGE", number, must)


def _check_soft_suppression(cfg: CfgNode) -> None:
    key, method = "MODEL.ROI_HEADS.SOFT_NMS.METHOD", cfg.MODEL.ROI_HEADS.SOFT_NMS.METHOD
    require(method in SOFT_METHODS, key, method, "be linear, gaussian or, for none, empty")
    check_above(cfg, "MODEL.ROI_HEADS.SOFT_NMS.SIGMA", 0)
    if method:
        must = "be empty unless MODEL.ROI_HEADS.NAME is StandardROIHeads"
        require(cfg.MODEL.ROI_HEADS.NAME == "StandardROIHeads", key, method, must)
        must = "be empty where TEST.AUG.ENABLED, whose images are merged by plain suppression"
        require(not cfg.TEST.AUG.ENABLED, key, method, must)
