"""Pretraining: what it adds to `Trainer`."""

import logging
import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from ..config.checks.training import check_pretraining
from ..data.pretraining.loader import build_pretraining_dataset, build_pretraining_loader
from ..data.pretraining.mapper import PretrainingMapper, SkippingMapper
from ..data.stream import SampleStream
from ..solver.schedule import count_iterations
from ..visualization.reconstructions import draw_reconstructions, make_noise
from ..visualization.sheet import save_png
from .hooks.evaluation import EvaluationHook
from .hooks.probe import FeatureProbe
from .skipped_images import SkippedImageRecorder, open_skipped_image_log, report_skipped_images
from .trainer import Trainer

logger = logging.getLogger(__name__)


class PretrainingTrainer(Trainer):
    """Masked autoencoding of the images in DATASETS.TRAIN; annotations are ignored."""

    static_graph = True
    build_train_dataset = staticmethod(build_pretraining_dataset)

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        check_pretraining(cfg, comm.get_world_size())

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iteration: int, dataset: Sequence) -> Iterable[dict]:
        return SkippedImageRecorder(build_pretraining_loader(cfg, start_iteration, dataset), cfg)

    def train(self) -> None:
        super().train()
        report_skipped_images(self.cfg)

    @classmethod
    def test(cls, cfg: CfgNode, model: torch.nn.Module, evaluators: object = None) -> dict:
        """Returns nothing: masked autoencoding has no test set."""
        return {}

    @property
    def evaluation_period(self) -> int:
        return count_iterations(self.cfg.SOLVER, self.cfg.TEST.PROBE_EPOCHS)

    def build_hooks(self) -> list[HookBase]:
        all_hooks, test = super().build_hooks(), self.cfg.TEST
        if test.PROBE or test.PROBE_EPOCHS:
            encoder = self.checkpointer.model.encoder
            probe = FeatureProbe(self.cfg, encoder, self.dataset, open_skipped_image_log(self.cfg))
            all_hooks.append(EvaluationHook(self.evaluation_period, probe.evaluate))
        if self.cfg.VIS_PERIOD > 0 and comm.is_main_process():
            all_hooks.append(ReconstructionHook(self.cfg, self.dataset))
        return all_hooks


class ReconstructionHook(HookBase):
    """Draws the same images under the same masks every VIS_PERIOD iterations and at the end.

    The pictures go to OUTPUT_DIR/reconstructions and to TensorBoard.
    """

    def __init__(self, cfg: CfgNode, dataset: Sequence, num_images: int = 6):
        self.period, self.image_format, self.shown = cfg.VIS_PERIOD, cfg.INPUT.FORMAT, cfg.INPUT.SHOWN_BANDS
        self.folder = os.path.join(cfg.OUTPUT_DIR, "reconstructions")
        self.samples = SampleStream(dataset, SkippingMapper(PretrainingMapper(cfg), dataset), seed=0)
        self.num_images = num_images

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.period and self.trainer.iter + 1 < self.trainer.max_iter:
            return
        model = self.trainer.checkpointer.model
        images = torch.stack([self.samples[position]["image"] for position in range(self.num_images)])
        noise = make_noise(model, images, seed=0)
        picture = draw_reconstructions(model, images, noise, self.image_format, self.shown)
        path = os.path.join(self.folder, f"{self.trainer.iter + 1:07d}.png")
        os.makedirs(self.folder, exist_ok=True)
        save_png(picture, path)
        get_event_storage().put_image("reconstructions", np.asarray(picture).transpose(2, 0, 1))
        logger.info(f"Reconstructions drawn in {path}")
