#!/usr/bin/env python3
"""Installs Detectron2: `convmae-det install-detectron2`, where what the command needs may be missing yet."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    package = Path(__file__).resolve().parents[1] / "convmae_det"
    runpy.run_path(str(package / "detectron2_installation.py"), run_name="__main__")
