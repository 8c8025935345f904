"""When a detector is evaluated during training, and which metric chooses the best weights."""

import math
from collections.abc import Iterator

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import TrainerBase, hooks

from ...config.checks import check_evaluation
from ...errors import InputError
from ...evaluation.coco import MEASURES, list_tasks


def resolve_evaluation(cfg: CfgNode, num_images: int) -> None:
    """Converts EVAL_EPOCHS to EVAL_PERIOD, in place, for `num_images` training images.

    Raises:
        InputError: values under TEST that can't be used, by their key.
    """
    check_evaluation(cfg)
    test = cfg.TEST
    if test.EVAL_EPOCHS:
        test.EVAL_PERIOD = math.ceil(test.EVAL_EPOCHS * num_images / cfg.SOLVER.IMS_PER_BATCH)
        test.EVAL_EPOCHS = 0.0
    choose_best_metric(cfg)


def choose_best_metric(cfg: CfgNode) -> str:
    """Chooses the metric for model_best.pth, by its name in metrics.json; "" without DATASETS.TEST.

    Raises:
        InputError: a name that is not computed; lists those that are.
    """
    if not cfg.DATASETS.TEST:
        return ""
    groups = dict(_list_metric_groups(cfg))
    name = cfg.TEST.BEST_METRIC or f"{list(groups)[len(list_tasks(cfg)) - 1]}/AP"  # masks come after boxes
    group, _, measure = name.rpartition("/")
    one_class = measure.startswith("AP-") and measure[3:] in groups.get(group, ())
    if group not in groups or not (measure in MEASURES or one_class):
        raise InputError(
            f"TEST.BEST_METRIC is {name}, which is not computed: choose {', '.join(groups)} followed by "
            f"{', '.join(f'/{measure}' for measure in MEASURES)} or, for one of several classes, /AP-NAME"
        )
    return name


def _list_metric_groups(cfg: CfgNode) -> Iterator[tuple[str, list[str]]]:
    """Yields what stands before /AP in the names of metrics, and the classes that have a metric of their own."""
    for weights in ("", "ema/") if cfg.SOLVER.EMA.DECAY else ("",):
        for dataset in cfg.DATASETS.TEST:
            classes = MetadataCatalog.get(dataset).get("thing_classes", [])
            for task in list_tasks(cfg):
                several = len(cfg.DATASETS.TEST) > 1
                yield f"{weights}{dataset + '/' if several else ''}{task}", classes if len(classes) > 1 else []


def is_due_at_start(trainer: TrainerBase, period: int) -> bool:
    """Whether the checkpoint that is resumed is from an iteration with an evaluation.

    The evaluation comes after the checkpoint, so it is not known whether the run completed it.
    """
    return period > 0 and 0 < trainer.start_iter < trainer.max_iter and trainer.start_iter % period == 0


class EvaluationHook(hooks.EvalHook):
    """Detectron2's hook, which also repeats an evaluation that may have been interrupted."""

    def before_train(self) -> None:
        if is_due_at_start(self.trainer, self._period):
            self.trainer.iter = self.trainer.storage.iter = self.trainer.start_iter - 1
            self._do_eval()
