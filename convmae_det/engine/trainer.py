"""Training from a configuration: Detectron2's DefaultTrainer with our step, schedule, optimizer and checkpoints.

`Trainer` is all that the two tasks share. A task says what the training data is (`build_train_dataset`,
`build_train_loader`) and how a model is evaluated (`test`).
"""

import logging
import os
import secrets
import weakref
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads.box_head import FastRCNNConvFCHead
from detectron2.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from fvcore.common.history_buffer import HistoryBuffer
from torch import nn

from ..checkpoint import Strictness, load_weights
from ..checkpoint.checkpointer import Checkpointer
from ..checkpoint.reading import one_line
from ..checkpoint.writing import atomic_write, remove_leftovers, write
from ..data import loader
from ..errors import InputError
from ..modeling.decoder import Decoder
from ..modeling.encoder import Encoder
from ..ops.regions import pad_regions
from ..precision import TRAINED, announce, autocast, evaluation_precision, read_in_float32, training_precision
from ..solver.optimizer import build_optimizer, gradient_clipper
from ..solver.schedule import resolve_schedule
from .average import AverageSaver, build_average
from .best import BestCheckpoint, EarlyStop, StoppedEarly
from .evaluation import Evaluation, Evaluator, best_metric, resolve_evaluation, tasks
from .interruption import Interruption
from .output_folder import end_last_line, set_aside_earlier_run
from .progress import Progress
from .step import TrainingStep

logger = logging.getLogger(__name__)

HEADS = (MaskRCNNConvUpsampleHead, FastRCNNConvFCHead, KRCNNConvDeconvUpsampleHead)  # which work region by region

LOG_PERIOD = 20  # iterations between lines in the log and in metrics.json


class Trainer(DefaultTrainer):
    """``Trainer(cfg)``, then :meth:`resume_or_load`, then :meth:`train`.

    `cfg` becomes, with its schedule resolved and its seed drawn, the config.yaml in OUTPUT_DIR. A resumed run has the
    data, random draws and learning rates that it would have had without the break, for the same configuration.
    """

    def __init__(self, cfg: CfgNode):
        TrainerBase.__init__(self)  # not DefaultTrainer's, which reads data before it is known from which iteration on
        self.dataset = self.build_train_dataset(cfg)
        self.cfg = resolve_schedule(cfg, len(self.dataset))
        self.cfg.defrost()
        if cfg.SEED < 0:
            self.cfg.SEED = comm.all_gather(secrets.randbelow(2**31))[0]
        seed_all_rng(self.cfg.SEED)

        model = self.build_model(self.cfg)
        optimizer = self.build_optimizer(self.cfg, model)
        devices = {} if cfg.MODEL.DEVICE.startswith("cuda") else {"device_ids": None}
        precision = training_precision(cfg)
        announce(precision)
        self._trainer = TrainingStep(
            create_ddp_model(model, broadcast_buffers=False, **devices),
            None,
            optimizer,
            accumulation_steps=self.cfg.SOLVER.ACCUMULATION_STEPS,
            autocast_dtype=precision.dtype,
            clip_gradients=gradient_clipper(cfg),
            average=build_average(model, cfg.SOLVER.EMA.DECAY),
            seed=self.cfg.SEED,
        )
        self.scheduler = self.build_lr_scheduler(self.cfg, optimizer)
        self.checkpointer = Checkpointer(
            model, cfg.OUTPUT_DIR, max_to_keep=cfg.SOLVER.MAX_TO_KEEP, trainer=weakref.proxy(self)
        )
        self.max_iter = self.cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_train_dataset(cls, cfg: CfgNode) -> Sequence:
        """The training images; the length of what is returned is an epoch."""
        raise NotImplementedError

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, dataset: Sequence, start_iteration: int) -> Iterable[list[dict]]:
        """Endless micro-batches, ACCUMULATION_STEPS of them an iteration, from iteration `start_iteration` on."""
        raise NotImplementedError

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_from(cfg)
        read_in_float32(model)
        pad_regions(model, HEADS)
        counts = [sum(p.numel() for p in model.parameters() if p.requires_grad or frozen) for frozen in (True, False)]
        logger.info(f"{type(model).__name__} on {cfg.MODEL.DEVICE}: {counts[0]:,} parameters, {counts[1]:,} trained")
        if cfg.MODEL.COMPILE:
            compile_in_place(model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    def build_hooks(self) -> list[hooks.HookBase]:
        all_hooks = [hooks.IterationTimer(), hooks.LRScheduler()]
        if comm.is_main_process():
            all_hooks.append(Progress(len(self.dataset), self.cfg.SOLVER.IMS_PER_BATCH, LOG_PERIOD))
            all_hooks.append(AverageSaver())
            all_hooks.append(hooks.PeriodicCheckpointer(self.checkpointer, self.cfg.SOLVER.CHECKPOINT_PERIOD))
        return [*all_hooks, Interruption()]

    def resume_or_load(self, resume: bool = True) -> None:
        """Goes on from the last checkpoint in OUTPUT_DIR if `resume` and there is one, else starts from MODEL.WEIGHTS,
        or at random without one.

        Raises InputError: the file doesn't exist, or its weights don't fit.
        """
        if resume and self.checkpointer.has_checkpoint():
            self._resume(self.checkpointer.get_checkpoint_file())
            return
        if resume:
            logger.warning(f"--resume: {self.cfg.OUTPUT_DIR} has no checkpoint yet; training starts at iteration 0")
        load_initial_weights(self.checkpointer.model, self.cfg.MODEL.WEIGHTS)
        self._trainer.start_average()

    def _resume(self, path: str) -> None:
        rest = self.checkpointer.load(path)
        if "iteration" not in rest:
            raise InputError(f"{path} holds weights alone and can't be resumed: give it as MODEL.WEIGHTS instead")
        self.start_iter = self.iter + 1
        logger.info(f"Resuming at iteration {self.start_iter} from {path}")

    def train(self) -> dict | None:
        """Trains to the end; returns the last evaluation's results, if there was one."""
        if self.start_iter >= self.max_iter:
            logger.info(
                f"{self.cfg.OUTPUT_DIR} holds a run that ended after {self.start_iter} iterations: it is complete"
            )
            self._evaluate_again()
        else:
            if comm.is_main_process():
                self._prepare_output()
            self.data_loader = self.build_train_loader(self.cfg, self.dataset, self.start_iter)
            try:
                super().train()
            except StoppedEarly as stop:
                logger.info(str(stop))
            finally:  # the loader's workers end with its iterator; a process that waits for them at exit may hang
                self._trainer._data_loader_iter_obj = None
        return getattr(self, "_last_eval_results", None)

    def before_train(self) -> None:
        """Detectron2 would keep each number of a million iterations; its writers look back no further than this."""
        self.storage._history.default_factory = partial(HistoryBuffer, max_length=1000)
        super().before_train()

    def _prepare_output(self) -> None:
        os.makedirs(self.cfg.OUTPUT_DIR, exist_ok=True)
        remove_leftovers(self.cfg.OUTPUT_DIR)
        if self.start_iter == 0:
            set_aside_earlier_run(self.cfg.OUTPUT_DIR)
        with atomic_write(os.path.join(self.cfg.OUTPUT_DIR, "config.yaml")) as file:
            file.write(self.cfg.dump().encode())
        self._register_writer()

    def _register_writer(self) -> None:
        """Opens files in OUTPUT_DIR, so not any earlier than that is needed."""
        end_last_line(os.path.join(self.cfg.OUTPUT_DIR, "metrics.json"))
        self.register_hooks([hooks.PeriodicWriter(self.build_writers(), LOG_PERIOD)])

    def _evaluate_again(self) -> None:
        """The final evaluation, and what follows from it: it may have been interrupted."""
        if not any(isinstance(hook, Evaluation) for hook in self._hooks):
            return
        if comm.is_main_process():
            self._register_writer()
        self.iter = self.start_iter
        with EventStorage(self.iter) as self.storage:
            self.before_train()
            self.after_train()

    def save_final(self) -> None:
        """model_final.pth, by which a run is known to be complete, and before it the averaged weights if there are."""
        self.save_average()
        self.checkpointer.save("model_final", iteration=self.iter)

    def save_average(self) -> None:
        """model_final_ema.pth, of weights alone."""
        if self._trainer.average is not None:
            weights = self._trainer.average.module.state_dict()
            write({"model": weights}, os.path.join(self.cfg.OUTPUT_DIR, "model_final_ema.pth"))

    def load_state_dict(self, state_dict: dict) -> None:
        """Learning rates, weight decay and the like stay those of the configuration, so that it can be changed for the
        rest of a run; the seed is that of the run, so that its stream of data goes on."""
        groups, base_lrs = self.optimizer.param_groups, self.scheduler.base_lrs
        configured = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        try:
            super().load_state_dict(state_dict)
        except InputError:  # of the average
            raise
        except ValueError as error:
            raise InputError(
                "the checkpoint to resume is of a run that trained other parameters: train those, or start a new run "
                "with the checkpoint as MODEL.WEIGHTS"
            ) from error
        self.scheduler.base_lrs = base_lrs
        for group, values, rate in zip(self.optimizer.param_groups, configured, self.scheduler.get_lr(), strict=True):
            group.update(values, lr=rate)
        self.cfg.SEED = self._trainer.seed


class DetectionTrainer(Trainer):
    """Fine-tunes a detector on registered data sets and evaluates it with COCO's metrics."""

    build_train_dataset = staticmethod(loader.build_train_dataset)
    build_test_loader = staticmethod(loader.build_test_loader)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, dataset: Sequence, start_iteration: int) -> Iterable[list[dict]]:
        return loader.build_train_loader(cfg, start_iteration, dataset)

    def build_hooks(self) -> list[hooks.HookBase]:
        resolve_evaluation(self.cfg, len(self.dataset))
        test, metric, best = self.cfg.TEST, best_metric(self.cfg), None
        if test.PRECISION != TRAINED:
            announce(evaluation_precision(self.cfg), "Precision of evaluations")
        all_hooks = [*super().build_hooks(), Evaluation(test.EVAL_PERIOD, self._evaluate)]
        if metric and comm.is_main_process():
            model = self._trainer.average.module if metric.startswith("ema/") else self.checkpointer.model
            path = os.path.join(self.cfg.OUTPUT_DIR, "model_best.pth")
            best = BestCheckpoint(test.EVAL_PERIOD, metric, model, path)
            all_hooks.append(best)
        if test.PATIENCE:
            all_hooks.append(EarlyStop(test.PATIENCE, test.EVAL_PERIOD, best))
        return all_hooks

    def _evaluate(self) -> dict:
        """The results of :meth:`test`, and under "ema" those of the averaged weights."""
        if self.iter == self.max_iter - 1:  # EvalHook takes a last iteration that failed for the end of training
            return {}
        averaged = {}
        if average := self._trainer.average:
            logger.info("Evaluating the averaged weights")
            averaged["ema"] = self.test(self.cfg, average.module)
            logger.info("Evaluating the weights as they are")
        self._last_eval_results = self.test(self.cfg, self.model) | averaged
        return self._last_eval_results

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> Evaluator:
        return Evaluator(dataset_name, tasks(cfg), output_dir=os.path.join(cfg.OUTPUT_DIR, "inference"))

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> dict:
        """COCO's metrics on DATASETS.TEST, in percent: {"bbox": {"AP": …}, "segm": …}, or one of these for each
        data set if there are several. Prints a line for each. Empty on all processes but the main one."""
        with autocast(cfg.MODEL.DEVICE, evaluation_precision(cfg).dtype):
            results = super().test(cfg, model, evaluators)
        names = cfg.DATASETS.TEST
        for name in names if comm.is_main_process() else ():
            scores = results if len(names) == 1 else results[name]
            kinds = {"box": "bbox", "mask": "segm"}
            found = (f"{kind} AP {scores[task]['AP']:.1f}" for kind, task in kinds.items() if task in scores)
            logger.info(f"{name}: {', '.join(found) or 'no AP, since its annotations are not public'}")
        return results

    @classmethod
    def evaluate(cls, cfg: CfgNode, resume: bool = False) -> dict:
        """:meth:`test` of the weights MODEL.WEIGHTS, or of the last checkpoint in OUTPUT_DIR if `resume`.

        Raises InputError: there are none, or they are not the whole model's.
        """
        if not cfg.DATASETS.TEST:
            raise InputError("DATASETS.TEST is empty: name the data set to evaluate on")
        checkpoints = Checkpointer(nn.Module(), cfg.OUTPUT_DIR)
        resume = resume and checkpoints.has_checkpoint()
        path = checkpoints.get_checkpoint_file() if resume else cfg.MODEL.WEIGHTS
        if not path:
            raise InputError("MODEL.WEIGHTS is empty: --eval-only needs the weights to evaluate")
        announce(evaluation_precision(cfg))
        return cls.test(cfg, cls.build_trained_model(cfg, path))

    @classmethod
    def build_trained_model(cls, cfg: CfgNode, path: str) -> nn.Module:
        """The model with the weights of a file; InputError if any weight of the model is not in there."""
        model = cls.build_model(cfg)
        load_weights(model, path, strictness=Strictness.WHOLE)
        return model


def build_from(cfg: CfgNode) -> nn.Module:
    """Detectron2's build_model; InputError where it, or torch, can't make anything of a value."""
    try:
        return build_model(cfg)
    except InputError:
        raise
    except Exception as error:  # registries, assertions and allocators have their own kinds
        raise InputError(
            f"no model can be built from the values under MODEL ({type(error).__name__}: {one_line(error)}): compare "
            "those that you set with the files in configs/"
        ) from error


def load_initial_weights(model: nn.Module, path: str) -> None:
    """Weights to start training from, which may leave heads at random; InputError for what can't be loaded."""
    if path:
        load_weights(model, path)
    else:
        logger.warning("MODEL.WEIGHTS is empty: training starts from random weights")


def compile_in_place(model: nn.Module) -> None:
    """torch.compile for the encoder, and the decoder of pretraining; the names of their weights stay. The heads of a
    detector are left: they work on lists of boxes."""
    for module in model.modules():
        if isinstance(module, (Encoder, Decoder)):
            module.compile()
