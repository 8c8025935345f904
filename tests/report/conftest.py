"""A run of a detector without a training: a few images, annotations, and results with an error of each kind."""

import json

import numpy as np
import pytest
from PIL import Image
from reference.runs import SIDE, make_data, write_config, write_metrics

from convmae_det.report.run_record import write_sessions
from convmae_det.report.writing import write_report


@pytest.fixture(scope="session")
def detector_run(tmp_path_factory):
    """The folder of a run, with its data in data/ beside it."""
    root = tmp_path_factory.mktemp("detector")
    folder, data = root / "run", root / "data"
    (folder / "inference").mkdir(parents=True)
    data.mkdir()
    truth, results = make_data()
    (data / "truth.json").write_text(json.dumps(truth))
    (folder / "inference" / "coco_instances_results.json").write_text(json.dumps(results))
    for image in truth["images"]:
        Image.fromarray(np.full((SIDE, SIDE, 3), 60 * image["id"], np.uint8)).save(data / image["file_name"])
    names = ["DATASETS.TRAIN", ("cells",), "DATASETS.TEST", ("cells",), "MODEL.MASK_ON", True]
    categories = [[category["id"], category["name"]] for category in truth["categories"]]
    entry = [["cells", str(data / "truth.json"), str(data)]]
    write_config(folder, *names, "DATASETS.COCO_FORMAT", entry, "DATASETS.CATEGORIES", categories)
    write_metrics(folder, lr=0.1)
    session = {"command": ["train", "<b>"], "began": "2026-01-01T00:00:00+00:00", "seconds": 61.0, "iterations": 200}
    write_sessions(folder, [session | {"device": "A CPU", "processes": 1, "images": 3, "versions": {"torch": "2.6"}}])
    return folder


@pytest.fixture(scope="session")
def detector_page(detector_run, tmp_path_factory):
    """The report on it."""
    return write_report(detector_run, tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture
def pretraining_run(tmp_path):
    folder = tmp_path / "pretrain"
    (folder / "reconstructions").mkdir(parents=True)
    for number in (100, 200):
        Image.new("RGB", (300, 200), "red").save(folder / "reconstructions" / f"{number:07d}.png")
    write_config(folder, "MODEL.META_ARCHITECTURE", "MaskedAutoencoder")
    write_metrics(folder, **{"probe/flowers/knn_top1": 900.0, "features/rank": 100.0})
    return folder
