"""The detector's loaders: registered data sets, checked and mapped, in a reproducible order."""

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_test_loader

from ...config.checks import check_loader, check_order
from ..stream import ErrorRaisingLoader, ErrorReturningMapper, build_stream_loader, ignore_signals, pack_batch
from .catalog import check_classes, load_dataset_dicts
from .mapper import DetectionMapper


def build_train_dataset(cfg: CfgNode) -> DatasetFromList:
    """Loads the images of DATASETS.TRAIN that have objects; its length is the number of images in an epoch.

    Raises:
        InputError: see `load_dataset_dicts` and `check_classes`.
    """
    dicts = load_dataset_dicts(cfg.DATASETS.TRAIN, is_train=True, cfg=cfg)
    check_classes(cfg, cfg.DATASETS.TRAIN)
    return DatasetFromList(dicts, copy=False)  # one buffer that all workers share


def build_train_loader(
    cfg: CfgNode, start_iteration: int = 0, dataset: DatasetFromList | None = None
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


def build_test_loader(cfg: CfgNode, dataset_name: str) -> ErrorRaisingLoader:
    """Builds a loader of this process's share of a data set, in its order, in batches of one image.

    Raises:
        InputError: see `build_train_loader`.
    """
    check_loader(cfg)
    dicts = load_dataset_dicts([dataset_name], is_train=False, cfg=cfg)
    check_classes(cfg, [dataset_name])
    mapper = ErrorReturningMapper(DetectionMapper(cfg, False))
    workers = cfg.DATALOADER.NUM_WORKERS
    loader = build_detection_test_loader(dicts, mapper=mapper, num_workers=workers, collate_fn=pack_batch)
    loader.worker_init_fn = ignore_signals
    return ErrorRaisingLoader(loader)
