"""The report on a run, at its end."""

import logging

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..report.writing import write_report_at_end

logger = logging.getLogger(__name__)


def report_run(output_dir: str, cfg: CfgNode | None = None) -> None:
    """Writes the report of OUTPUT_DIR in the main process, for which the others wait, lest they leave it alone.

    Args:
        output_dir: of the run
        cfg: of its evaluation; None: the config.yaml there
    """
    if comm.is_main_process() and (path := write_report_at_end(output_dir, cfg)):
        logger.info(f"Report: {path}")
    comm.synchronize()
