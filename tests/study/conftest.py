"""A study of small networks on drawn shapes, whose file a test may change."""

import copy
from pathlib import Path

import pytest
import yaml
from reference.small import AUTOENCODER, DETECTOR, ENCODER

from convmae_det.data.shapes import register_shapes, write_shapes
from convmae_det.study.reading import read_study

STUDY = {
    "base": "detector.yaml",
    "set": {"SOLVER.MAX_ITER": 6, "SOLVER.IMS_PER_BATCH": 1},
    "metric": "bbox/AP",
    "seeds": [1, 2],
    "shares": [0.5, 1.0],
    "variants": [
        {"name": "pretraining", "config": "pretrain.yaml", "seeds": [1], "shares": [1.0], "in_table": False},
        {"name": "from scratch", "weights": "none"},
        {"name": "pretrained", "weights": {"result of": "pretraining"}, "set": {"SOLVER.BASE_LR": 0.001}},
    ],
}


def write_config(path: str, *pairs) -> None:
    tree: dict = {}
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        *nodes, name = key.split(".")
        node = tree
        for part in nodes:
            node = node.setdefault(part, {})
        node[name] = value
    Path(path).write_text(yaml.safe_dump(tree))


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, train=4, val=2, size=64)
    return root


@pytest.fixture
def study_tree(shapes_folder, tmp_path, monkeypatch):
    """The content of a study file that is right; the working folder has what it names."""
    monkeypatch.chdir(tmp_path)
    register_shapes(shapes_folder)
    data = ("DATASETS.TRAIN", ["shapes_train"], "DATASETS.TEST", ["shapes_val"], "DATALOADER.NUM_WORKERS", 0)
    write_config("detector.yaml", *ENCODER, *DETECTOR, *data)
    write_config("pretrain.yaml", *ENCODER, *AUTOENCODER, *data[:2], "DATASETS.TEST", [], "SOLVER.IMS_PER_BATCH", 2)
    yield copy.deepcopy(STUDY)
    register_shapes()


@pytest.fixture
def write_study(study_tree, tmp_path):
    """``write_study(change)`` writes the file after change(tree), and returns its name."""

    def write(change=lambda tree: None) -> str:
        change(study_tree)
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study_tree, sort_keys=False))
        return "study.yaml"

    return write


@pytest.fixture
def runs(write_study):
    """The runs of the study, in the folder out."""
    return read_study(write_study()).list_runs(Path("out"))
