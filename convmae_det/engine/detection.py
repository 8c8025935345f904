"""Fine-tuning a detector: what it adds to `Trainer`."""

import logging
import os
import re
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.utils import comm
from torch import nn

from ..checkpoint.checkpointer import Checkpointer
from ..config.checks.data import check_names
from ..config.checks.model import check_architecture
from ..config.checks.rules import require
from ..config.checks.training import check_fine_tuning
from ..data.detection.catalog import check_data_sets_exist
from ..data.detection.loader import build_test_loader, build_train_dataset, build_train_loader, check_test_data
from ..data.survey import resolve_white_level
from ..evaluation.coco import Evaluator, list_tasks
from ..inference.augmentation import augment_predictions
from ..inference.model import build_trained_model
from ..precision import TRAINED, autocast, choose_evaluation_precision, log_precision
from .hooks.best import BestCheckpoint, EarlyStoppingHook
from .hooks.evaluation import EvaluationHook, choose_best_metric
from .output_folder import BEST
from .trainer import Trainer

logger = logging.getLogger(__name__)


class DetectionTrainer(Trainer):
    """Fine-tunes a detector on registered data sets and evaluates it with COCO's metrics."""

    build_test_loader = staticmethod(build_test_loader)
    build_train_loader = staticmethod(build_train_loader)

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        check_fine_tuning(cfg, comm.get_world_size())
        check_data_sets_exist([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST], cfg)

    @classmethod
    def build_train_dataset(cls, cfg: CfgNode) -> Any:
        dataset = build_train_dataset(cfg)
        check_test_data(resolve_white_level(cfg, dataset))
        return dataset

    def build_hooks(self) -> list[hooks.HookBase]:
        test, metric, best = self.cfg.TEST, choose_best_metric(self.cfg), None
        must = "be 0 where no data set of DATASETS.TEST has annotations"
        require(metric or not test.PATIENCE, "TEST.PATIENCE", test.PATIENCE, must)
        if test.PRECISION != TRAINED:
            log_precision(choose_evaluation_precision(self.cfg), "Precision of evaluations")
        all_hooks = [*super().build_hooks(), EvaluationHook(test.EVAL_PERIOD, self._evaluate)]
        if metric and comm.is_main_process():
            average = self._trainer.average
            model = average.module if average and metric.startswith("ema/") else self.checkpointer.model
            path = os.path.join(self.cfg.OUTPUT_DIR, BEST)
            best = BestCheckpoint(test.EVAL_PERIOD, metric, model, path)
            all_hooks.append(best)
        if test.PATIENCE:
            all_hooks.append(EarlyStoppingHook(test.PATIENCE, test.EVAL_PERIOD, best))
        return all_hooks

    def _evaluate(self) -> dict:
        """Returns the results of :meth:`test`, and under "ema" those of the averaged weights."""
        if self.iter == self.max_iter - 1:  # the last iteration failed: EvalHook evaluates then, too
            return {}
        averaged = {}
        if average := self._trainer.average:
            logger.info("Evaluating the averaged weights")
            averaged["ema"] = self.test(self.cfg, average.module, self.build_evaluators(self.cfg, "ema"))
            logger.info("Evaluating the weights without averaging")
        self._last_eval_results = self.test(self.cfg, self.checkpointer.model) | averaged
        return self._last_eval_results

    @classmethod
    def build_evaluators(cls, cfg: CfgNode, weights: str = "") -> list[Evaluator]:
        """Builds an evaluator for each of DATASETS.TEST.

        Their results go to OUTPUT_DIR/inference, but with several data sets or averaged weights each to a folder of its
        own there.

        Args:
            cfg: with TEST.DETECTIONS_PER_IMAGE
            weights: "ema" for the averaged ones
        """
        folders = [os.path.join(cfg.OUTPUT_DIR, "inference")] * len(cfg.DATASETS.TEST)
        if len(folders) > 1 or cfg.SOLVER.EMA.DECAY:  # a name is that of one folder, even with a / in it
            names = [re.sub(r"[%/]", lambda match: f"%{ord(match[0]):X}", name) for name in cfg.DATASETS.TEST]
            folders = [os.path.join(folders[0], name, *filter(None, [weights])) for name in names]
        return [
            Evaluator(
                name,
                list_tasks(cfg),
                folder,
                max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
                crowd_as_objects=cfg.DATASETS.CROWD_AS_OBJECTS,
            )
            for name, folder in zip(cfg.DATASETS.TEST, folders, strict=True)
        ]

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: list[Evaluator] | None = None) -> dict:
        """Evaluates on DATASETS.TEST, and logs a line for each data set.

        Args:
            cfg: of the model
            model: whose weights are evaluated
            evaluators: one for each of DATASETS.TEST; None for those of :meth:`build_evaluators`

        Returns:
            COCO's metrics, in percent: {"bbox": {"AP": …}, "segm": …}, or one of these for each data set if there are
            several. Empty on all processes but the main one.
        """
        with autocast(cfg.MODEL.DEVICE, choose_evaluation_precision(cfg).dtype):
            results = super().test(cfg, augment_predictions(cfg, model), evaluators or cls.build_evaluators(cfg))
        names = cfg.DATASETS.TEST
        for name in names if comm.is_main_process() else ():
            scores = results if len(names) == 1 else results[name]
            kinds = {"box": "bbox", "mask": "segm"}
            found = (f"{kind} AP {scores[task]['AP']:.1f}" for kind, task in kinds.items() if task in scores)
            logger.info(f"{name}: {', '.join(found) or 'no AP, since its annotations are not public'}")
        return results

    @classmethod
    def evaluate(cls, cfg: CfgNode, resume: bool = False) -> dict:
        """Evaluates the weights MODEL.WEIGHTS, or the last checkpoint in OUTPUT_DIR if `resume`; see :meth:`test`.

        Raises:
            InputError: there are none, or they are not the whole model's.
        """
        check_names("DATASETS.TEST", cfg.DATASETS.TEST)
        check_architecture(cfg)
        checkpoints = Checkpointer(nn.Module(), cfg.OUTPUT_DIR)
        resume = resume and checkpoints.has_checkpoint()
        path = checkpoints.get_checkpoint_file() if resume else cfg.MODEL.WEIGHTS
        require(path, "MODEL.WEIGHTS", path, "name the weights to evaluate")
        log_precision(choose_evaluation_precision(cfg))
        check_data_sets_exist(cfg.DATASETS.TEST, cfg)
        check_test_data(cfg)
        return cls.test(cfg, build_trained_model(cfg, path))
