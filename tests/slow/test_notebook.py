"""The notebook runs from its first cell to its last, as whoever opens it would run it."""

from pathlib import Path

import pytest

from convmae_det import installation

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "docs/notebooks/quickstart.ipynb"


def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="the extra docs is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra docs is not installed")
    monkeypatch.setenv("PYTHONPATH", str(installation.ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [output for output in outputs if "image/png" in output.get("data", ())]  # text has none
    assert len(pictures) == 3
