"""Distributions of the project, built in a copy of it, for building writes into its folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
PIP = ["-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", "datasets", "output", "build", "*.egg-info"
)


def copy_source(folder: Path) -> Path:
    return Path(shutil.copytree(ROOT, folder / "source", ignore=IGNORED))


def build(source: Path, folder: Path, **environment: str) -> None:
    """Builds a source distribution, and the wheel from that, into `folder`."""
    succeed([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source], **environment)


def succeed(words: list, cwd: Path | None = None, path: Iterable[str | Path] = (), **environment: str) -> str:
    """What a program prints, with `path` as Python's; fails with that if the program does."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"} | environment
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, text=True, **streams)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def libraries() -> list[str]:
    """The folders that hold what the project needs."""
    installed = [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]
    return [*installed, str(Path(find_spec("detectron2").origin).parents[1])]
