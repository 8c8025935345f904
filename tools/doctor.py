#!/usr/bin/env python3
"""Says what convmae_det would run with here: `convmae-det doctor`, where the package can't be imported, too."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    sys.path.append(str(root))  # where the package is imported from, unless it is installed
    sys.exit(runpy.run_path(str(root / "convmae_det/installation.py"))["report_installation"]())
