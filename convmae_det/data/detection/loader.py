"""The detector's loaders: registered data sets, checked and mapped, in a reproducible order."""

import logging
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MetadataCatalog
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm

from ...config.checks.data import REPEATED, check_loader, check_order
from ..stream import ErrorRaisingLoader, RepeatedDataset, build_share_loader, build_stream_loader
from .catalog import check_any_object, check_classes, load_dataset_dicts
from .mapper import DetectionMapper
from .tiling import cut_tiles

logger = logging.getLogger(__name__)


def build_train_dataset(cfg: CfgNode) -> DatasetFromList | RepeatedDataset:
    """Loads the images of DATASETS.TRAIN that have objects; its length is the number of images in an epoch.

    With INPUT.TILE their tiles take the place of images.

    With DATALOADER.SAMPLER_TRAIN RepeatFactorTrainingSampler, images of rare classes come more than once in an epoch.

    Raises:
        InputError: see `load_dataset_dicts` and `check_classes`.
    """
    dicts = load_dataset_dicts(cfg.DATASETS.TRAIN, is_train=True, cfg=cfg)
    check_classes(cfg, cfg.DATASETS.TRAIN)
    if cfg.INPUT.TILE:
        dicts = cut_tiles(cfg, dicts)
    dataset = DatasetFromList(dicts, copy=False)  # one buffer that all workers share
    return _repeat(dataset, dicts, cfg) if cfg.DATALOADER.SAMPLER_TRAIN == REPEATED else dataset


def _repeat(dataset: DatasetFromList, dicts: Sequence[dict], cfg: CfgNode) -> RepeatedDataset:
    """Repeats images as Detectron2's sampler does (LVIS, arXiv 1908.03195, appendix B.2)."""
    check_order(cfg)
    threshold, sqrt = cfg.DATALOADER.REPEAT_THRESHOLD, cfg.DATALOADER.REPEAT_SQRT
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dicts, threshold, sqrt)
    repeated = RepeatedDataset(dataset, factors.numpy())
    logger.info(f"{REPEATED}: in an epoch, {len(dicts)} images come {len(repeated)} times altogether")
    return repeated


def build_train_loader(
    cfg: CfgNode, start_iteration: int = 0, dataset: DatasetFromList | RepeatedDataset | None = None
) -> ErrorRaisingLoader:
    """Builds a loader of endless batches for training, beginning with optimizer step `start_iteration`.

    Args:
        cfg: as for `build_stream_loader`
        start_iteration: counted from 0
        dataset: from `build_train_dataset`, if it is loaded already

    Raises:
        InputError: a data set, or a key, that can't be used. While iterating: an image or its annotations.
    """
    check_order(cfg)
    if dataset is None:
        dataset = build_train_dataset(cfg)
    return build_stream_loader(cfg, dataset, DetectionMapper(cfg, True), start_iteration)


def check_test_data(cfg: CfgNode) -> None:
    """Checks every data set of DATASETS.TEST, and reads an image of each, so that no error waits until after training.

    Raises:
        InputError: see `build_test_loader`; or a data set whose annotations hold no object.
    """
    for name in cfg.DATASETS.TEST:
        dicts = load_dataset_dicts([name], is_train=False, cfg=cfg)
        check_classes(cfg, [name])
        if "annotations" in dicts[0]:
            check_any_object(dicts, [name])
            _warn_of_empty_classes(dicts, name)
        DetectionMapper(cfg, False)(dicts[0])


def _warn_of_empty_classes(dicts: Sequence[dict], name: str) -> None:
    annotations = (annotation for image in dicts for annotation in image["annotations"])
    found = {annotation["category_id"] for annotation in annotations if not annotation.get("iscrowd", 0)}
    classes = MetadataCatalog.get(name).get("thing_classes") or ()
    missing = [label for number, label in enumerate(classes) if number not in found]
    if missing and comm.is_main_process():
        shown = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
        logger.warning(f"{name} has no object of {shown}: they have no AP there, and the mean AP leaves them out")


def build_test_loader(cfg: CfgNode, dataset_name: str) -> ErrorRaisingLoader:
    """Builds a loader of this process's share of a data set, in its order, in batches of one image.

    Raises:
        InputError: see `build_train_loader`.
    """
    check_loader(cfg)
    dicts = load_dataset_dicts([dataset_name], is_train=False, cfg=cfg)
    check_classes(cfg, [dataset_name])
    return build_share_loader(cfg, dicts, DetectionMapper(cfg, False))
