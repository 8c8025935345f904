"""Training: Detectron2's DefaultTrainer with our step, schedule, optimizer and checkpoints.

`Trainer` is what both tasks share. A task defines the training data (`build_train_dataset`, `build_train_loader`) and
how a model is evaluated (`test`).
"""

import logging
import os
import secrets
import weakref
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase, hooks
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage, EventWriter, JSONWriter, TensorboardXWriter
from fvcore.common.history_buffer import HistoryBuffer
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ..checkpoint.checkpointer import Checkpointer
from ..checkpoint.record import begin_record
from ..checkpoint.writing import describe_model, write_checkpoint
from ..config.keys import AUTO
from ..config.reading import flatten_keys
from ..data.agreement import find_in_all_processes
from ..data.share import choose_share
from ..data.survey import resolve_white_level
from ..errors import InputError
from ..files import atomic_write, remove_temporary_files
from ..precision import choose_training_precision, log_precision
from ..solver.optimizer import build_gradient_clipper, build_optimizer
from ..solver.schedule import build_lr_scheduler, build_run_config, limit_passes, resolve_schedule
from .batch_size import choose_batch, keep_batch
from .hooks.average import AverageSavingHook, build_average
from .hooks.best import BestCheckpoint, TrainingStopped
from .hooks.evaluation import EvaluationHook
from .hooks.interruption import InterruptionHook
from .hooks.progress import ProgressHook
from .hooks.run_record import RunRecordHook
from .hooks.settling import SettlingHook
from .hooks.writing import WritingHook
from .output_folder import (
    FINAL,
    FINAL_AVERAGE,
    WHOLE,
    check_strangers,
    complete_last_line,
    list_documents,
    move_earlier_run,
)
from .parallel import parallelise
from .pass_size import PassSize, find_pass_size, log_recorded
from .reporting import report_run
from .start import build_model_to_train, load_initial_weights, warn_of_idle_keys
from .step import Batch, TrainingStep
from .trackers.tracker import start_trackers

logger = logging.getLogger(__name__)


LOG_PERIOD = 20  # iterations between lines in metrics.json


class Trainer(DefaultTrainer):
    """Trains a model: :meth:`start`, or ``Trainer(cfg)`` and :meth:`resume_or_load`, then :meth:`train`.

    `cfg`, with its seed drawn and the size of an epoch, is written to config.yaml in OUTPUT_DIR. A resumed run has the
    data, random draws and learning rates that it would have had without interruption, for the same configuration.
    """

    static_graph = False  # whether the model runs the same operations for each batch

    def __init__(self, cfg: CfgNode):
        TrainerBase.__init__(self)  # not DefaultTrainer's, which builds the loader before the first iteration is known
        self.check_config(cfg)
        warn_of_idle_keys(cfg)
        self.trackers = find_in_all_processes(lambda: start_trackers(cfg.LOGGERS if comm.is_main_process() else ()))
        self.dataset = choose_share(self.build_train_dataset(cfg), cfg.DATASETS.TRAIN_SHARE, cfg.SEED)
        cfg = resolve_white_level(cfg, self.dataset)
        cfg = choose_batch(cfg, len(self.dataset), self.build_model)
        self.given, self.cfg = cfg, resolve_schedule(cfg, len(self.dataset))
        self.cfg.defrost()
        if cfg.SEED < 0:
            self.cfg.SEED = comm.all_gather(secrets.randbelow(2**31))[0]
        seed_all_rng(self.cfg.SEED)

        model = self.build_model(self.cfg)
        optimizer = self.build_optimizer(self.cfg, model)
        precision = choose_training_precision(cfg)
        log_precision(precision)
        self._trainer = TrainingStep(
            model,
            None,
            optimizer,
            accumulation_steps=self.cfg.SOLVER.ACCUMULATION_STEPS,
            autocast_dtype=precision.dtype,
            clip_gradients=build_gradient_clipper(cfg),
            average=build_average(model, cfg.SOLVER.EMA.DECAY),
            seed=self.cfg.SEED,
        )
        self.pass_size: PassSize | None = None  # found once for a run, and recorded in its checkpoints
        self.scheduler = self.build_lr_scheduler(self.cfg, optimizer)
        self.checkpointer = Checkpointer(
            model, cfg.OUTPUT_DIR, max_to_keep=cfg.SOLVER.MAX_TO_KEEP, trainer=weakref.proxy(self)
        )
        self.max_iter = self.cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    @classmethod
    def start(cls, cfg: CfgNode, resume: bool) -> "Trainer":
        """Builds a trainer that begins a run, or continues the one in OUTPUT_DIR if `resume` and there is one."""
        trainer = cls(keep_batch(cfg) if resume else cfg)
        trainer.resume_or_load(resume)
        return trainer

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        """Checks everything that can be checked before data are read and earlier files moved.

        Raises:
            InputError: a value that can't be used, by its key.
        """
        raise NotImplementedError

    @classmethod
    def build_train_dataset(cls, cfg: CfgNode) -> Sequence:
        """Loads the training images; the length of the result is an epoch."""
        raise NotImplementedError

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iteration: int, dataset: Sequence) -> Iterable[Batch]:
        """Builds a loader of endless micro-batches, ACCUMULATION_STEPS an iteration, from `start_iteration` on."""
        raise NotImplementedError

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        return build_model_to_train(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @property
    def evaluation_period(self) -> int:
        """Iterations between evaluations; 0: only at the end."""
        return self.cfg.TEST.EVAL_PERIOD

    def build_hooks(self) -> list[hooks.HookBase]:
        solver = self.cfg.SOLVER
        settling = SettlingHook([LOG_PERIOD, self.cfg.VIS_PERIOD, solver.CHECKPOINT_PERIOD])
        all_hooks = [hooks.IterationTimer(), hooks.LRScheduler(), settling]
        if comm.is_main_process():
            all_hooks.append(ProgressHook(len(self.dataset), solver.IMS_PER_BATCH, LOG_PERIOD))
            all_hooks.append(AverageSavingHook())
            all_hooks.append(RunRecordHook(self.cfg, self.dataset))
            all_hooks.append(hooks.PeriodicCheckpointer(self.checkpointer, solver.CHECKPOINT_PERIOD))
        return [*all_hooks, InterruptionHook()]

    def build_writers(self) -> list[EventWriter]:
        """Builds what writes metrics.json and what LOGGERS names; lines of the log are the ProgressHook's."""
        folder = self.cfg.OUTPUT_DIR
        for tracker in self.trackers:
            tracker.begin(folder, dict(flatten_keys(self.cfg)), resume=self.start_iter > 0)
        writers = [JSONWriter(os.path.join(folder, "metrics.json")), *self.trackers]
        if "tensorboard" in self.cfg.LOGGERS:
            writers.append(TensorboardXWriter(folder))  # the last, since it drops the pictures that it has taken
        return writers

    def resume_or_load(self, resume: bool = True) -> None:
        """Continues from the last checkpoint in OUTPUT_DIR if `resume` and there is one.

        Otherwise it starts from MODEL.WEIGHTS, or from random weights without one.

        Raises:
            InputError: the file doesn't exist, or its weights don't fit.
        """
        if resume and self.checkpointer.has_checkpoint():
            self._resume(self.checkpointer.get_checkpoint_file())
            return
        if resume:
            logger.warning(f"--resume: {self.cfg.OUTPUT_DIR} has no checkpoint yet; training starts at iteration 0")
        load_initial_weights(self.checkpointer.model, self.cfg)
        self._trainer.start_average()

    def _resume(self, path: str) -> None:
        rest = self.checkpointer.load(path)
        if "iteration" not in rest:
            raise InputError(f"{path} holds weights alone and can't be resumed: give it as MODEL.WEIGHTS instead")
        self.start_iter = self.iter + 1
        logger.info(f"Resuming at iteration {self.start_iter} from {path}")

    def train(self) -> dict | None:
        """Trains to the end, and writes a report.

        Returns:
            The results of the last evaluation, if there was one.
        """
        if self.start_iter >= self.max_iter:
            logger.info(
                f"{self.cfg.OUTPUT_DIR} holds a run that ended after {self.start_iter} iterations: it is complete"
            )
            self._evaluate_again()
        else:
            if self.cfg.SOLVER.MAX_IMS_PER_PASS == AUTO:
                self._limit_passes()
            # PyTorch refuses passes without exchange, as in accumulation, where the graph is static
            static_graph = self.static_graph and self.cfg.SOLVER.ACCUMULATION_STEPS == 1
            self._trainer.model = parallelise(self.checkpointer.model, self.cfg.MODEL.DEVICE, static_graph)
            if comm.is_main_process():
                self._prepare_output()
            self.data_loader = self.build_train_loader(self.cfg, self.start_iter, self.dataset)
            try:
                super().train()
            except TrainingStopped as stop:
                logger.info(str(stop))
            except BaseException:
                self._finish_trackers(complete=False)
                raise
            finally:  # the loader's workers end with its iterator; a process that waits for them at exit may hang
                self._trainer._data_loader_iter_obj = None
            report_run(self.cfg.OUTPUT_DIR)  # before the trackers end, which take it with them
        self._finish_trackers(complete=True)
        return getattr(self, "_last_eval_results", None)

    def _finish_trackers(self, complete: bool) -> None:
        """Gives the trackers the files of the run, and ends their runs."""
        folder, weights = self.cfg.OUTPUT_DIR, [FINAL] if self.cfg.LOG_WEIGHTS and complete else []
        for tracker in self.trackers:
            tracker.finish(complete, folder, list_documents(folder), weights)

    def _limit_passes(self) -> None:
        """Puts a number in place of SOLVER.MAX_IMS_PER_PASS auto: that of the resumed run, lest its course change."""
        if self.pass_size:
            log_recorded(self.pass_size, self.cfg.MODEL.DEVICE)
        else:
            model, autocast = self.checkpointer.model, self._trainer.autocast
            self.pass_size = find_pass_size(self.cfg, model, self.optimizer, autocast)
        limit_passes(self.cfg, self.pass_size.images)
        self._trainer.accumulation_steps = self.cfg.SOLVER.ACCUMULATION_STEPS

    def before_train(self) -> None:
        """Limits the event storage to what its writers need: Detectron2 would keep every number of the whole run."""
        self.storage._history.default_factory = partial(HistoryBuffer, max_length=1000)
        if self.start_iter < self.max_iter:
            logger.info(f"Training starts: {self.max_iter - self.start_iter:,} iterations, up to {self.max_iter:,}")
        super().before_train()

    def _prepare_output(self) -> None:
        os.makedirs(self.cfg.OUTPUT_DIR, exist_ok=True)
        if self.start_iter == 0:
            move_earlier_run(self.cfg.OUTPUT_DIR)
        check_strangers(self.cfg.OUTPUT_DIR, self._list_weights(), range(self.start_iter, self.max_iter))
        begin_record(self.cfg.OUTPUT_DIR)
        remove_temporary_files(self.cfg.OUTPUT_DIR, WHOLE)
        with atomic_write(os.path.join(self.cfg.OUTPUT_DIR, "config.yaml")) as file:
            file.write(build_run_config(self.given, self.cfg).dump().encode())
        self._register_writer()

    def _list_weights(self) -> list[str]:
        """Lists the names of the files of weights that the run writes, beside numbered checkpoints."""
        best = [os.path.basename(hook.path) for hook in self._hooks if isinstance(hook, BestCheckpoint)]
        return [FINAL, *best, *([FINAL_AVERAGE] if self._trainer.average is not None else [])]

    def _register_writer(self) -> None:
        """Registers the writers, as late as possible, since they open files in OUTPUT_DIR."""
        complete_last_line(os.path.join(self.cfg.OUTPUT_DIR, "metrics.json"))
        self.register_hooks([WritingHook(self.build_writers(), [LOG_PERIOD, self.evaluation_period])])

    def _evaluate_again(self) -> None:
        """Repeats the final evaluation, if the run has any: it may have been interrupted, or what follows from it."""
        if not any(isinstance(hook, EvaluationHook) for hook in self._hooks):
            return
        if comm.is_main_process():
            self._register_writer()
        self.iter = self.start_iter
        with EventStorage(self.iter) as self.storage:
            self.before_train()
            self.after_train()
        report_run(self.cfg.OUTPUT_DIR)

    def save_final(self) -> None:
        """Writes the averaged weights, if there are any, and then model_final.pth, which marks a run as complete."""
        self.save_average()
        self.checkpointer.save("model_final", iteration=self.iter)

    def save_average(self) -> None:
        """Writes FINAL_AVERAGE, weights alone."""
        if self._trainer.average is not None:
            content = describe_model(self._trainer.average.module)
            write_checkpoint(content, os.path.join(self.cfg.OUTPUT_DIR, FINAL_AVERAGE), recorded=True)

    def state_dict(self) -> dict:
        recorded = {"pass_size": self.pass_size._asdict()} if self.pass_size else {}
        return super().state_dict() | recorded

    def load_state_dict(self, state_dict: dict) -> None:
        """Restores the state of training from a checkpoint.

        Learning rates, weight decay and the like stay those of the configuration, so that they can be changed for the
        rest of a run; the seed becomes that of the run, so that its stream of data continues.
        """
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
        if "pass_size" in state_dict:
            self.pass_size = PassSize(**state_dict["pass_size"])
