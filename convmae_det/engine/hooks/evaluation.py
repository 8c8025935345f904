"""When a detector is evaluated during training, and which metric chooses the best weights."""

import math

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import TrainerBase, hooks

from ...config.checks.rules import require
from ...errors import InputError
from ...evaluation.coco import list_tasks, read_ground_truth
from ...evaluation.metrics import evaluate_results
from ...evaluation.panoptic import TASK as PANOPTIC
from ...evaluation.panoptic import find_measures


def choose_best_metric(cfg: CfgNode) -> str:
    """Chooses the metric for model_best.pth, by its name in metrics.json.

    Returns:
        TEST.BEST_METRIC or, if that is empty, PQ of a panoptic FPN, and the AP of masks (boxes) of other detectors, on
        the first data set of DATASETS.TEST that has annotations; "" if none has.

    Raises:
        InputError: a name that is not computed, or that can't have a value on these data; lists those that can.
    """
    metrics = _list_metrics(cfg)
    if not cfg.TEST.BEST_METRIC:
        for task, measure in ((PANOPTIC, "PQ"), (list_tasks(cfg)[-1], "AP")):
            if groups := [group for group in metrics if group.rpartition("/")[2] == task]:
                return f"{groups[0]}/{measure}"
        return ""
    name = cfg.TEST.BEST_METRIC
    must = "be empty where no data set of DATASETS.TEST has annotations"
    require(metrics, "TEST.BEST_METRIC", name, must)
    group = max((group for group in metrics if name.startswith(f"{group}/")), key=len, default="")
    measures = metrics.get(group, {})
    measure = name[len(group) + 1 :]
    if not measures.get(measure, False):
        problem = "has no value, for the test data have no such object" if measure in measures else "is not computed"
        common = measures or next(iter(metrics.values()))
        possible = [f"/{measure}" for measure, has_value in common.items() if has_value and measure[2:3] != "-"]
        raise InputError(
            f"TEST.BEST_METRIC is {name}, which {problem}: choose {', '.join([group] if group else metrics)} followed "
            f"by {', '.join(possible)} or, for one of several classes, /AP-NAME"
        )
    return name


def _list_metrics(cfg: CfgNode) -> dict[str, dict[str, bool]]:
    """Lists the metrics of evaluations, by what stands before /AP in their names, and whether they can have a value.

    That is found by an evaluation of no results: where there is nothing to find, it gives no number.
    """
    metrics = {}
    for dataset in cfg.DATASETS.TEST:
        truth = read_ground_truth(dataset, cfg.DATASETS.CROWD_AS_OBJECTS)
        if "annotations" not in truth:
            continue
        prefix = f"{dataset}/" if len(cfg.DATASETS.TEST) > 1 else ""
        if MetadataCatalog.get(dataset).get("panoptic_format"):
            metrics[f"{prefix}{PANOPTIC}"] = find_measures(dataset)
        scores = evaluate_results(truth, [], ("bbox",), cfg.TEST.DETECTIONS_PER_IMAGE)["bbox"]
        for task in list_tasks(cfg):
            metrics[f"{prefix}{task}"] = {name: not math.isnan(score) for name, score in scores.items()}
    averaged = {f"ema/{name}": measures for name, measures in metrics.items()} if cfg.SOLVER.EMA.DECAY else {}
    return metrics | averaged


def is_due_at_start(trainer: TrainerBase, period: int) -> bool:
    """Whether the checkpoint that is resumed is from an iteration with an evaluation.

    The evaluation comes after the checkpoint, so it is not known whether the run completed it.
    """
    return period > 0 and 0 < trainer.start_iter < trainer.max_iter and trainer.start_iter % period == 0


class EvaluationHook(hooks.EvalHook):
    """Detectron2's hook, which also repeats an evaluation that may have been interrupted.

    It evaluates nothing after a last iteration that has failed, nor before the outcome of an iteration is known.
    """

    def after_step(self) -> None:
        if self._period > 0 and (self.trainer.iter + 1) % self._period == 0:
            self.trainer._trainer.settle()
        super().after_step()

    def before_train(self) -> None:
        if is_due_at_start(self.trainer, self._period):
            self.trainer.iter = self.trainer.storage.iter = self.trainer.start_iter - 1
            self._do_eval()

    def after_train(self) -> None:
        if self.trainer.iter == self.trainer.max_iter - 1:  # it is max_iter where the last iteration has succeeded
            self._eval_after_train = False
        super().after_train()
