"""Training a segmentor: what it adds to `EvaluatedTrainer`."""

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from ..config.checks.segmentation import check_segmentation_input, check_segmentor
from ..config.checks.training import check_segmentation
from ..data.image import Decoding
from ..data.segmentation.loader import build_test_loader, build_train_dataset, build_train_loader, check_test_data
from ..evaluation.segmentation import MEASURES, TASK, SegmentationEvaluator, choose_best_metric
from ..inference.predictor import read_classes
from ..inference.sliding import slide_windows
from ..precision import is_gpu
from .evaluated_trainer import EvaluatedTrainer
from .parallel import share_norm_statistics


class SegmentationTrainer(EvaluatedTrainer):
    """Trains a segmentor on the data sets of DATASETS.SEMANTIC, or Detectron2's, and evaluates it, in percent.

    The metrics are {"sem_seg": {"mIoU": …, "mACC": …, "pACC": …, "boundary_mIoU": …, "IoU-NAME": …}}.
    """

    load_train_dataset = staticmethod(build_train_dataset)
    check_test_data = staticmethod(check_test_data)
    build_test_loader = staticmethod(build_test_loader)
    build_train_loader = staticmethod(build_train_loader)
    choose_best_metric = staticmethod(choose_best_metric)

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        check_segmentation(cfg, comm.get_world_size())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Builds the model; several GPUs compute the statistics of batch norms together."""
        model = super().build_model(cfg)
        if comm.get_world_size() > 1 and is_gpu(cfg.MODEL.DEVICE):
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return model

    @classmethod
    def prepare_model(cls, cfg: CfgNode, model: nn.Module) -> nn.Module:
        share_norm_statistics(model)
        return slide_windows(cfg, model)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, folder: str) -> SegmentationEvaluator:
        ignored, decoding = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE, Decoding.from_config(cfg)
        return SegmentationEvaluator(dataset_name, read_classes(cfg)[0], ignored, folder, decoding)

    @classmethod
    def describe_scores(cls, scores: dict) -> str:
        return ", ".join(f"{name} {scores[TASK][name]:.2f}" for name in MEASURES)

    @classmethod
    def check_evaluation(cls, cfg: CfgNode) -> None:
        check_segmentor(cfg)
        check_segmentation_input(cfg, is_train=False)
