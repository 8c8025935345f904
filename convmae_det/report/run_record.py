"""What a run says of itself in OUTPUT_DIR/run.json: with what, where, on what and how long it was trained."""

import json
import platform
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from ..data.survey import hash_names
from ..files import write_json
from ..installation import DETECTRON2, ROOT, find_processor_name, find_version, read_output
from ..precision import is_gpu

RECORD = "run.json"
PACKAGES = ("convmae_det", "torch", "torchvision", "timm", "numpy", "pillow", "pycocotools")


def read_sessions(folder: str | Path) -> list[dict[str, Any]]:
    """Reads the sessions of a run: one, and another for each time that it was resumed; none if none is recorded."""
    try:
        content = json.loads(Path(folder, RECORD).read_bytes())
    except (OSError, ValueError):
        return []
    sessions = content.get("sessions") if isinstance(content, dict) else None
    return [session for session in sessions if isinstance(session, dict)] if isinstance(sessions, list) else []


def write_sessions(folder: str | Path, sessions: list[dict[str, Any]]) -> None:
    """Writes the sessions of a run.

    Raises:
        InputError: the file can't be written.
    """
    write_json(Path(folder, RECORD), {"sessions": sessions}, indent=2)


def begin_session(cfg: CfgNode, iteration: int, images: Sequence[dict]) -> dict[str, Any]:
    """Describes a session that begins.

    Args:
        cfg: of the run
        iteration: its first, counted from 0
        images: of an epoch, with their "file_name"
    """
    versions = {name: version for name in PACKAGES if (version := find_version(name))}
    versions["detectron2"] = next(filter(None, map(find_version, DETECTRON2)), "")
    return {
        "command": sys.argv,
        "began": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "first_iteration": iteration,
        "iterations": 0,
        "images": len(images),
        "names": hash_names(images),
        "device": torch.cuda.get_device_name() if is_gpu(cfg.MODEL.DEVICE) else find_processor_name(),
        "processes": comm.get_world_size(),
        "machine": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": versions,
        "revision": find_revision(),
    }


def find_revision() -> str:
    """Finds the git revision of the clone that this code runs in; "" if it is installed."""
    if not (ROOT / ".git").exists():
        return ""
    git = "git", "-C", str(ROOT)
    revision = read_output(*git, "rev-parse", "HEAD").strip()
    changed = read_output(*git, "status", "--porcelain", "--untracked-files=no").strip()
    return f"{revision}, with changes" if revision and changed else revision
