"""Data sets and batches of a classifier."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.utils import comm
from torch.utils.data import ConcatDataset

from ...config.architectures import needs_pairs
from ...config.checks.data import check_loader
from ...config.checks.rules import require
from ..agreement import list_in_all_processes
from ..pretraining.mapper import SkippingMapper
from ..stream import ErrorRaisingLoader, build_stream_loader, count_workers, ignore_signals, pack_batch
from .data_sets import list_data_set, list_training_images
from .mapper import EvaluationMapper, TrainingMapper
from .mixing import Mixing

TEST_BATCH = 32  # images that are evaluated at once


def build_train_dataset(cfg: CfgNode) -> ConcatDataset:
    """Lists the images of DATASETS.TRAIN, see `LabelledImages`; its length is the number of images in an epoch.

    Raises:
        InputError: in all processes; see `list_in_all_processes` and `list_data_set`.
    """
    return list_in_all_processes(list_training_images, cfg)


def build_train_loader(
    cfg: CfgNode, start_iteration: int = 0, dataset: Sequence | ConcatDataset | None = None
) -> ErrorRaisingLoader:
    """Builds a loader of endless batches for training, beginning with optimizer step `start_iteration`.

    A batch is what `Mixing` returns; an image that can't be read is replaced by another, and is in its "skipped".

    Args:
        cfg: as for `build_stream_loader`
        start_iteration: counted from 0
        dataset: from `build_train_dataset`, if it is listed already

    Raises:
        InputError: a data set, or a key, that can't be used. While iterating: too few images can be read.
    """
    _check_parts(cfg)
    if dataset is None:
        dataset = build_train_dataset(cfg)
    mapper = SkippingMapper(TrainingMapper(cfg), dataset)
    return build_stream_loader(cfg, dataset, mapper, start_iteration, Mixing.from_config(cfg))


def _check_parts(cfg: CfgNode) -> None:
    """Checks that each batch of a process has an even number of images, where it must."""
    images, passes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size() * cfg.SOLVER.ACCUMULATION_STEPS
    why = "has pairs of images to mix, or for the batch norm of a probe"
    must = f"be a multiple of {2 * passes}, so that each of {passes} part{'s' * (passes > 1)} {why}"
    require(not needs_pairs(cfg) or images % (2 * passes) == 0, "SOLVER.IMS_PER_BATCH", images, must)


def check_test_data(cfg: CfgNode) -> None:
    """Lists every data set of DATASETS.TEST, and reads an image of each, so that no error waits until after training.

    Raises:
        InputError: see `list_data_set`; or a key of INPUT that can't be used.
    """
    for name in cfg.DATASETS.TEST:
        EvaluationMapper(cfg)(list_data_set(cfg, name)[0])


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Any:
    """Builds a loader of this process's share of a data set, in its order; no image is in two shares.

    A batch is what `Mixing` returns of samples of `EvaluationMapper`.

    Raises:
        InputError: see `list_data_set`.
    """
    check_loader(cfg)
    loader = build_detection_test_loader(
        list_data_set(cfg, dataset_name),
        mapper=EvaluationMapper(cfg),
        batch_size=TEST_BATCH,
        num_workers=count_workers(cfg),
        collate_fn=_pack,
    )
    loader.worker_init_fn = ignore_signals
    return ErrorRaisingLoader(loader)


def _pack(samples: list[dict]) -> Any:
    return pack_batch(samples, Mixing(None))
