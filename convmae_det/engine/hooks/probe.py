"""What the features are worth while an encoder is pretrained: neighbours on labelled images, and their rank."""

import functools
import logging
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from ...config.checks.data import BANDS
from ...data.agreement import find_in_all_processes
from ...data.pretraining.skipped_images import SkippedImageLog
from ...data.survey import spread_indices
from ...evaluation.probe import classify_by_neighbours, compute_accuracy, compute_effective_rank
from ...inference.pooled_features import PooledFeatures, build_pooler
from ...inference.probe import ProbeData, check_any_read, list_probe_data
from ...modeling.encoder import Encoder

logger = logging.getLogger(__name__)

RANKED = 2048  # training images whose features are ranked, at most


class FeatureProbe:
    """Probes an encoder on the data sets of TEST.PROBE, and ranks its features of some training images.

    The images are divided among the processes. Nothing is drawn at random, so that training goes on as without it.
    """

    def __init__(self, cfg: CfgNode, encoder: Encoder, dataset: Sequence[dict], skipped: SkippedImageLog):
        """Lists the images, and reads one of each part.

        Args:
            cfg: of pretraining
            encoder: the one that is trained
            dataset: the training images
            skipped: gets the names of images that can't be read

        Raises:
            InputError: in all processes; see `list_labelled_images`, or none of some images of a part can be read.
        """
        self.pooler, self.dataset, self.skipped = build_pooler(cfg, encoder), dataset, skipped
        self.data: dict[str, ProbeData] = {}
        for name, train, test in cfg.TEST.PROBE:
            find = functools.partial(list_probe_data, train, test, arrays=cfg.INPUT.FORMAT == BANDS)
            self.data[name] = data = find_in_all_processes(find)
            for images in data:
                find_in_all_processes(functools.partial(self.pooler.check_readable, images))
            logger.info(f"Probe {name}: {len(data.train):,} training and {len(data.test):,} test images")

    def evaluate(self) -> dict:
        """Computes all numbers.

        Returns:
            {"features": {"rank": …}, "probe": {name: {"knn_top1": percent, "rank": …}, …}}; the latter if there are
            any, and nothing on all processes but the main one
        """
        results: dict = {"probe": {name: self._evaluate(name, data) for name, data in self.data.items()}}
        part = self._pool(self.dataset, spread_indices(len(self.dataset), RANKED), "Features of training images")
        if not comm.is_main_process():
            return {}
        rank = compute_effective_rank(part.features)
        logger.info(f"Features of {len(part.indices):,} training images: rank {rank:.1f}")
        return (results if self.data else {}) | {"features": {"rank": rank}}

    def _evaluate(self, name: str, data: ProbeData) -> dict[str, float]:
        train, test = (self._pool(images, range(len(images)), f"Probe {name}") for images in data)
        if not comm.is_main_process():
            return {}
        labels = [images.labels[part.indices] for images, part in zip(data, (train, test), strict=True)]
        seen, known, unseen = (x.to(self.pooler.device) for x in (train.features, labels[0], test.features))
        predicted = classify_by_neighbours(seen, known, unseen, len(data.train.classes))
        result = {
            "knn_top1": compute_accuracy(predicted.cpu(), labels[1]),
            "rank": compute_effective_rank(train.features),
        }
        logger.info(f"Probe {name}: k-NN top-1 {result['knn_top1']:.2f}, rank {result['rank']:.1f}")
        return result

    def _pool(self, images: Sequence[dict], indices: Sequence[int], title: str) -> PooledFeatures:
        """Computes features in all processes; complete in the main one, in the order of the processes."""
        part = self.pooler.pool(images, indices[comm.get_rank() :: comm.get_world_size()], title)
        self.skipped.update(part.skipped)
        parts = comm.gather(part)
        if not comm.is_main_process():
            return part
        features, places, skipped = zip(*parts, strict=True)
        whole = PooledFeatures(torch.cat(features), torch.cat(places), [entry for part in skipped for entry in part])
        check_any_read(whole)
        return whole
