"""Training goes on where images can't be read; a file in OUTPUT_DIR names them."""

import logging
import os
from collections.abc import Iterable, Iterator

from detectron2.config import CfgNode

from ..data.pretraining.skipped_images import SkippedImageLog

logger = logging.getLogger(__name__)


def open_skipped_image_log(cfg: CfgNode) -> SkippedImageLog:
    """Opens the log of skipped images in OUTPUT_DIR."""
    return SkippedImageLog(os.path.join(cfg.OUTPUT_DIR, "skipped_images.log"))


def report_skipped_images(cfg: CfgNode) -> None:
    """Logs how many images were skipped, if any were."""
    skipped = open_skipped_image_log(cfg)
    if skipped.count:
        logger.warning(f"{skipped.count} images could not be read and were skipped: {skipped.path} names them")


class SkippedImageRecorder:
    """A loader that records the names of skipped images of each batch in a file."""

    def __init__(self, loader: Iterable[dict], cfg: CfgNode):
        self.loader, self.skipped = loader, open_skipped_image_log(cfg)

    def __iter__(self) -> Iterator[dict]:
        for batch in self.loader:
            self.skipped.update(batch["skipped"])
            yield batch
