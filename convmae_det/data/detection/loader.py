"""The detector's loaders: registered data sets, checked and mapped, in a reproducible order."""

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_test_loader

from ...config.checks import check_loader, check_order
from ..stream import Checked, HandOver, build_stream_loader, outlive_signals, pack
from .catalog import check_classes, dataset_dicts
from .mapper import DetectionMapper


def build_train_dataset(cfg: CfgNode) -> DatasetFromList:
    """The images of DATASETS.TRAIN that have objects; its length is the number of images in an epoch.

    Raises:
        InputError: see `dataset_dicts` and `check_classes`.
    """
    dicts = dataset_dicts(cfg.DATASETS.TRAIN, is_train=True, cfg=cfg)
    check_classes(cfg, cfg.DATASETS.TRAIN)
    return DatasetFromList(dicts, copy=False)  # one buffer that all workers share


def build_train_loader(cfg: CfgNode, start_iteration: int = 0, dataset: DatasetFromList | None = None) -> Checked:
    """Endless batches for training, from the optimizer step `start_iteration` on; see `build_stream_loader`.

    Args:
        dataset: of `build_train_dataset`, if it is loaded already

    Raises:
        InputError: a data set, or a key, that can't be used. While iterating: an image or its annotations.
    """
    check_order(cfg)
    if dataset is None:
        dataset = build_train_dataset(cfg)
    return build_stream_loader(cfg, dataset, DetectionMapper(cfg, True), start_iteration)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Checked:
    """This process's share of a data set, in its order, in batches of one image.

    Raises:
        InputError: as `build_train_loader`.
    """
    check_loader(cfg)
    dicts = dataset_dicts([dataset_name], is_train=False, cfg=cfg)
    check_classes(cfg, [dataset_name])
    mapper = HandOver(DetectionMapper(cfg, False))
    workers = cfg.DATALOADER.NUM_WORKERS
    loader = build_detection_test_loader(dicts, mapper=mapper, num_workers=workers, collate_fn=pack)
    loader.worker_init_fn = outlive_signals
    return Checked(loader)
