"""Whoever has the wheel alone, and its dependencies, can do what the first pages say."""

import os
import sys

import pytest
from reference.packages import PIP, ROOT, build, copy_source, libraries, succeed

pytestmark = pytest.mark.slow


def test_the_first_steps_work_from_the_wheel_alone(tmp_path):
    """In a virtual environment to which the libraries of this one are lent."""
    build(copy_source(tmp_path), tmp_path / "built")
    succeed([sys.executable, "-m", "venv", tmp_path / "venv"])
    python = tmp_path / "venv/bin/python"
    succeed([python, *PIP, *(tmp_path / "built").glob("*.whl")])
    (site_packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (site_packages / "lent.pth").write_text("\n".join(libraries()))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    where = succeed([python, "-c", "import convmae_det; print(convmae_det.__file__)"], cwd=folder)
    assert where.startswith(str(site_packages))
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    succeed(["bash", ROOT / ".ci/smoke"], cwd=folder, PATH=path)
    assert list((folder / "predictions").glob("*.png"))
