"""What several processes find on their disks, or fail to find together."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.utils.data import ConcatDataset

from ..errors import InputError
from .survey import log_file_kinds

Found = TypeVar("Found")


def find_in_all_processes(find: Callable[[], Found]) -> Found:
    """Returns what `find` returns, first in the main process and then in the others, which can use its caches.

    Raises:
        InputError: in all processes, the first that `find` raised in one of them.
    """
    found: Any = None
    for turn in (True, False):
        error = None
        if comm.is_main_process() == turn:
            try:
                found = find()
            except InputError as problem:
                error = problem
        for problem in comm.all_gather(error):
            if problem:
                raise problem
    return found


def list_in_all_processes(list_images: Callable[[CfgNode], ConcatDataset], cfg: CfgNode) -> ConcatDataset:
    """Lists the images of DATASETS.TRAIN, and logs what kinds of files they are.

    Args:
        list_images: makes of `cfg` a data set for each name, with `digest()`, one after the other
        cfg: passed on

    Raises:
        InputError: in all processes; one of `list_images`, or the processes don't find the same images.
    """
    dataset: Any = find_in_all_processes(functools.partial(list_images, cfg))
    digests = comm.all_gather([files.digest() for files in dataset.datasets])
    if digests.count(digests[0]) < len(digests):
        raise InputError("The images of DATASETS.TRAIN are not the same for all processes: make their copies equal.")
    if comm.is_main_process():
        for name, files in zip(cfg.DATASETS.TRAIN, dataset.datasets, strict=True):
            log_file_kinds(name, files, cfg)
    return dataset
