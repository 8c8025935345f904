"""Training with evaluations on DATASETS.TEST: what the tasks that have labels share."""

import logging
import os
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

from ..checkpoint.checkpointer import Checkpointer
from ..config.checks.data import check_names
from ..config.checks.rules import require
from ..data.survey import resolve_white_level
from ..evaluation.result_folders import AVERAGED, find_result_folder
from ..inference.model import build_trained_model
from ..precision import TRAINED, autocast, choose_evaluation_precision, log_precision
from .hooks.best import BestCheckpoint, EarlyStoppingHook
from .hooks.evaluation import EvaluationHook
from .output_folder import BEST
from .progress import ShownLoader
from .trainer import Trainer

logger = logging.getLogger(__name__)


class EvaluatedTrainer(Trainer):
    """A trainer that evaluates during training and at the end, and keeps the best weights."""

    @classmethod
    def choose_best_metric(cls, cfg: CfgNode) -> str:
        """Chooses the metric for model_best.pth, by its name in metrics.json; empty where none can have a value."""
        raise NotImplementedError

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, folder: str) -> DatasetEvaluator:
        """Builds what collects a model's results on a data set, and writes them to a folder."""
        raise NotImplementedError

    @classmethod
    def prepare_model(cls, cfg: CfgNode, model: nn.Module) -> nn.Module:
        """Prepares a model for evaluation."""
        return model

    @classmethod
    def describe_scores(cls, scores: dict) -> str:
        """Describes the results on a data set in a few words."""
        raise NotImplementedError

    @classmethod
    def check_evaluation(cls, cfg: CfgNode) -> None:
        """Checks the model, and the names of the test data, before weights are evaluated."""
        raise NotImplementedError

    @classmethod
    def load_train_dataset(cls, cfg: CfgNode) -> Any:
        """Loads the training images; the length of the result is an epoch."""
        raise NotImplementedError

    @classmethod
    def check_test_data(cls, cfg: CfgNode) -> None:
        """Checks each of DATASETS.TEST, and reads an image of it, so that no error waits until after training."""
        raise NotImplementedError

    @classmethod
    def build_train_dataset(cls, cfg: CfgNode) -> Any:
        dataset = cls.load_train_dataset(cfg)
        cls.check_test_data(resolve_white_level(cfg, dataset))
        return dataset

    def build_hooks(self) -> list[hooks.HookBase]:
        test, metric, best = self.cfg.TEST, self.choose_best_metric(self.cfg), None
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
        """Returns the results of :meth:`test`, and under AVERAGED those of the averaged weights."""
        averaged = {}
        if average := self._trainer.average:
            logger.info("Evaluating the averaged weights")
            averaged[AVERAGED] = self.test(self.cfg, average.module, self.build_evaluators(self.cfg, AVERAGED))
            logger.info("Evaluating the weights without averaging")
        self._last_eval_results = self.test(self.cfg, self.checkpointer.model) | averaged
        return self._last_eval_results

    @classmethod
    def build_evaluators(cls, cfg: CfgNode, weights: str = "") -> list[DatasetEvaluator]:
        """Builds an evaluator for each of DATASETS.TEST, whose results go where `find_result_folder` says.

        Args:
            cfg: of the model
            weights: AVERAGED for the averaged ones
        """
        folders = [str(find_result_folder(cfg, cfg.OUTPUT_DIR, name, weights)) for name in cfg.DATASETS.TEST]
        return [cls.build_evaluator(cfg, *pair) for pair in zip(cfg.DATASETS.TEST, folders, strict=True)]

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict:
        """Evaluates on DATASETS.TEST, and logs a line for each data set.

        Args:
            cfg: of the model
            model: whose weights are evaluated
            evaluators: one for each of DATASETS.TEST; None for those of :meth:`build_evaluators`

        Returns:
            The metrics of the evaluator, or these for each data set by its name if there are several. Empty on all
            processes but the main one.
        """
        results, evaluators = {}, evaluators or cls.build_evaluators(cfg)
        with torch.inference_mode(), autocast(cfg.MODEL.DEVICE, choose_evaluation_precision(cfg).dtype):
            model = cls.prepare_model(cfg, model)
            for name, evaluator in zip(cfg.DATASETS.TEST, evaluators, strict=True):
                loader = ShownLoader(cls.build_test_loader(cfg, name), f"Evaluating on {name}")
                results[name] = inference_on_dataset(model, loader, evaluator)
                if comm.is_main_process():
                    logger.info(f"{name}: {cls.describe_scores(results[name])}")
        return results[name] if len(results) == 1 else results

    @classmethod
    def evaluate(cls, cfg: CfgNode, resume: bool = False) -> dict:
        """Evaluates the weights MODEL.WEIGHTS, or the last checkpoint in OUTPUT_DIR if `resume`; see :meth:`test`.

        Raises:
            InputError: there are none, or they are not the whole model's.
        """
        check_names("DATASETS.TEST", cfg.DATASETS.TEST)
        checkpoints = Checkpointer(nn.Module(), cfg.OUTPUT_DIR)
        resume = resume and checkpoints.has_checkpoint()
        path = checkpoints.get_checkpoint_file() if resume else cfg.MODEL.WEIGHTS
        require(path, "MODEL.WEIGHTS", path, "name the weights to evaluate")
        log_precision(choose_evaluation_precision(cfg))
        cls.check_evaluation(cfg)
        cls.check_test_data(cfg)
        return cls.test(cfg, build_trained_model(cfg, path))
