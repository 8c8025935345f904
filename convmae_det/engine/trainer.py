"""Training from a configuration: Detectron2's DefaultTrainer with our step, schedule, optimizer and checkpoints.

`Trainer` is all that the two tasks share. A task says what the training data is (`build_train_dataset`,
`build_train_loader`) and how a model is evaluated (`test`).
"""

import glob
import logging
import os
import secrets
import weakref
from collections.abc import Iterable, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch import nn

from ..checkpoint import load_weights
from ..checkpoint.checkpointer import Checkpointer
from ..checkpoint.writing import atomic_write
from ..data import loader
from ..errors import InputError
from ..modeling.decoder import Decoder
from ..modeling.encoder import Encoder
from ..solver.optimizer import build_optimizer, gradient_clipper
from ..solver.schedule import resolve_schedule
from .progress import Progress
from .step import TrainingStep

logger = logging.getLogger(__name__)

LOG_PERIOD = 20  # iterations between lines in the log and in metrics.json

# What a run leaves in OUTPUT_DIR that another run would overwrite or append to.
RUN_FILES = ("*.pth", "last_checkpoint", "metrics.json", "config.yaml", "events.out.tfevents.*")
RUN_FILES += ("reconstructions", "skipped_images.log")


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
        amp = cfg.SOLVER.AMP
        self._trainer = TrainingStep(
            create_ddp_model(model, broadcast_buffers=False, **devices),
            None,
            optimizer,
            accumulation_steps=self.cfg.SOLVER.ACCUMULATION_STEPS,
            autocast_dtype=getattr(torch, amp.DTYPE) if amp.ENABLED else None,
            clip_gradients=gradient_clipper(cfg),
            seed=self.cfg.SEED,
        )
        self.scheduler = self.build_lr_scheduler(self.cfg, optimizer)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
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
        model = build_model(cfg)
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
            all_hooks.append(hooks.PeriodicCheckpointer(self.checkpointer, self.cfg.SOLVER.CHECKPOINT_PERIOD))
        return all_hooks

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
            return self.test(self.cfg, self.model)
        if comm.is_main_process():
            os.makedirs(self.cfg.OUTPUT_DIR, exist_ok=True)
            if self.start_iter == 0:
                set_aside_earlier_run(self.cfg.OUTPUT_DIR)
            with atomic_write(os.path.join(self.cfg.OUTPUT_DIR, "config.yaml")) as file:
                file.write(self.cfg.dump().encode())
            writer = hooks.PeriodicWriter(self.build_writers(), LOG_PERIOD)  # opens its files, so not any earlier
            self.register_hooks([writer])
        self.data_loader = self.build_train_loader(self.cfg, self.dataset, self.start_iter)
        super().train()
        return getattr(self, "_last_eval_results", None)

    def load_state_dict(self, state_dict: dict) -> None:
        """Learning rates, weight decay and the like stay those of the configuration, so that it can be changed for the
        rest of a run; the seed is that of the run, so that its stream of data goes on."""
        groups, base_lrs = self.optimizer.param_groups, self.scheduler.base_lrs
        configured = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        try:
            super().load_state_dict(state_dict)
        except ValueError as error:
            raise InputError(
                "the checkpoint to resume is of a run that trained other parameters: train those, or start a new run "
                "with the checkpoint as MODEL.WEIGHTS"
            ) from error
        self.scheduler.base_lrs = base_lrs
        for group, values, rate in zip(self.optimizer.param_groups, configured, self.scheduler.get_lr(), strict=True):
            group.update(values, lr=rate)
        self.cfg.SEED = self._trainer.seed


class Evaluator(COCOEvaluator):
    """Detectron2's, but what finds nothing, such as a detector at the start of training, has an AP of 0, not NaN."""

    def _derive_coco_results(self, coco_eval, iou_type: str, class_names: Sequence[str] | None = None) -> dict:
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        return dict.fromkeys(results, 0.0) if coco_eval is None else results


class DetectionTrainer(Trainer):
    """Fine-tunes a detector on registered data sets and evaluates it with COCO's metrics."""

    build_train_dataset = staticmethod(loader.build_train_dataset)
    build_test_loader = staticmethod(loader.build_test_loader)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, dataset: Sequence, start_iteration: int) -> Iterable[list[dict]]:
        return loader.build_train_loader(cfg, start_iteration, dataset)

    def build_hooks(self) -> list[hooks.HookBase]:
        return [*super().build_hooks(), hooks.EvalHook(self.cfg.TEST.EVAL_PERIOD, self._evaluate)]

    def _evaluate(self) -> dict:
        if self.iter == self.max_iter - 1:  # EvalHook takes a last iteration that failed for the end of training
            return {}
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        tasks = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
        return Evaluator(dataset_name, tasks, output_dir=os.path.join(cfg.OUTPUT_DIR, "inference"))

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> dict:
        """COCO's metrics on DATASETS.TEST, in percent: {"bbox": {"AP": …}, "segm": …}, or one of these for each
        data set if there are several. Prints a line for each. Empty on all processes but the main one."""
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
        model = cls.build_model(cfg)
        report = load_weights(model, path)
        if report.new:
            raise InputError(
                f"{path} is not of the model that the configuration describes: it lacks {len(report.new)} weights, "
                f"such as {next(iter(report.new))}; take the config.yaml that lies beside it"
            )
        return cls.test(cfg, model)


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


def set_aside_earlier_run(output_dir: str) -> None:
    """Moves the files of an earlier run, if it left a checkpoint, to a folder previous_run_1, 2, … of their own."""
    if not os.path.exists(os.path.join(output_dir, "last_checkpoint")):
        return
    number = 1
    while os.path.exists(folder := os.path.join(output_dir, f"previous_run_{number}")):
        number += 1
    os.mkdir(folder)
    for pattern in RUN_FILES:
        for path in glob.glob(os.path.join(glob.escape(output_dir), pattern)):
            os.replace(path, os.path.join(folder, os.path.basename(path)))
    logger.warning(
        f"{output_dir} held another run (--resume would have gone on with it): its files are now in {folder}"
    )
