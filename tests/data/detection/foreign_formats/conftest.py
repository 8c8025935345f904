"""Exports of each tool, of one scene, laid out with their images."""

import shutil
from pathlib import Path

import pytest

FOREIGN = Path(__file__).parents[2] / "foreign"


@pytest.fixture
def export(tmp_path, monkeypatch):
    """``export(name, place)`` lays out an export with its images, and goes to its folder."""

    def export(name, place):
        folder = tmp_path / name
        shutil.copytree(FOREIGN / name, folder)
        for image in ("a.png", "b.png", "c.png"):
            split = "val" if image == "b.png" else "train"
            target = (tmp_path if place == "photos" else folder) / place.format(split=split)
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(FOREIGN / "images" / image, target)
        monkeypatch.chdir(folder)
        return folder

    return export
