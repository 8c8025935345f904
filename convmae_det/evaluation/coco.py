"""COCO's metrics of a detector."""

import contextlib
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import COCOEvaluator, coco_evaluation

# Where Detectron2's compiled evaluation is missing, faster-coco-eval replaces it if installed: several times as fast
# as pycocotools, with equal results (benchmarks/benchmark.py evaluate).
if coco_evaluation.COCOeval_opt is coco_evaluation.COCOeval:
    with contextlib.suppress(ImportError):
        from faster_coco_eval import COCOeval_faster

        coco_evaluation.COCOeval_opt = COCOeval_faster

MEASURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # COCO's


def list_tasks(cfg: CfgNode) -> tuple[str, ...]:
    """Lists what COCO's metrics are computed for: boxes and, with MODEL.MASK_ON, masks."""
    return ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)


class Evaluator(COCOEvaluator):
    """Detectron2's evaluator, but a detector that finds nothing, such as an untrained one, has an AP of 0, not NaN."""

    def _derive_coco_results(self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None) -> dict:
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        return dict.fromkeys(results, 0.0) if coco_eval is None else results
