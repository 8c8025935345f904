"""Where the evaluations of a run leave their results, and how the names of their metrics begin."""

import re
from pathlib import Path
from typing import NamedTuple

from detectron2.config import CfgNode

from .thresholds import FOLDER

AVERAGED = "ema"  # weights that are averaged over training


class ResultFolder(NamedTuple):
    """A folder for the results on a data set."""

    data_set: str
    weights: str  # "", or AVERAGED
    path: Path


def find_result_folder(cfg: CfgNode, output_dir: str | Path, data_set: str, weights: str = "") -> Path:
    """Finds the folder of the results on one of DATASETS.TEST.

    It is OUTPUT_DIR/inference, but with several data sets or averaged weights each has a folder of its own there.

    Args:
        cfg: of the run
        output_dir: its OUTPUT_DIR, wherever it lies now
        data_set: its name
        weights: AVERAGED for the averaged ones
    """
    folder = Path(output_dir, FOLDER)
    if len(cfg.DATASETS.TEST) > 1 or cfg.SOLVER.EMA.DECAY:  # a name is that of one folder, even with a / in it
        folder /= re.sub(r"[%/]", lambda match: f"%{ord(match[0]):X}", data_set)
        folder = folder / weights if weights else folder
    return folder


def list_result_folders(cfg: CfgNode, output_dir: str | Path) -> list[ResultFolder]:
    """Lists the folders of all results that evaluations of a run leave."""
    kinds = ("", AVERAGED) if cfg.SOLVER.EMA.DECAY else ("",)
    return [
        ResultFolder(name, weights, find_result_folder(cfg, output_dir, name, weights))
        for name in cfg.DATASETS.TEST
        for weights in kinds
    ]


def list_prefixes(cfg: CfgNode) -> list[str]:
    """Lists how the names of metrics begin in metrics.json: for each of DATASETS.TEST, then for averaged weights."""
    names = cfg.DATASETS.TEST
    prefixes = [f"{name}/" for name in names] if len(names) > 1 else [""] * len(names)
    return prefixes + ([f"{AVERAGED}/{prefix}" for prefix in prefixes] if cfg.SOLVER.EMA.DECAY else [])
