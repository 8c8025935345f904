"""Every script starts in an interpreter that has imported nothing of the project, as it does for a user."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITHOUT_OPTIONS = {"doctor.py", "install_detectron2.py"}  # with tests of their own
PATHS = [path for path in [*ROOT.glob("*_net.py"), *ROOT.glob("tools/*.py")] if path.name not in WITHOUT_OPTIONS]
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in PATHS)


@pytest.mark.parametrize("words", [*([path] for path in SCRIPTS), ["-m", "convmae_det.data.shapes"]], ids=" ".join)
def test_scripts_start(words, python):
    done = subprocess.run([python, *words, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: "), done.stderr
