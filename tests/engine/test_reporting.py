"""Training ends with a report, and one that can't be written doesn't matter."""

import json
from argparse import Namespace

import pytest

from convmae_det.cli import train

TRAIN, EVALUATE = Namespace(eval_only=False, resume=False), Namespace(eval_only=True, resume=True)


@pytest.fixture
def cfg(shapes_cfg):
    return shapes_cfg("SOLVER.MAX_ITER", 2, "TEST.DETECTIONS_PER_IMAGE", 5)


def test_runs_record_and_report(cfg, tmp_path, caplog):
    out = tmp_path / "out"
    train.train(cfg, TRAIN)
    page = (out / "report.html").read_text()
    assert "What is wrong with the detector on shapes_val" in page and "for 2 iterations" in page
    (session,) = json.loads((out / "run.json").read_text())["sessions"]
    assert (session["iterations"], session["images"], session["processes"]) == (2, 4, 1) and session["seconds"] > 0

    train.train(cfg, EVALUATE)
    assert (out / "report.html").read_text() != page  # with what differs from the run
    (out / "report.html").write_text("mine")
    train.train(cfg, TRAIN)  # a user's page stays, and so does the record of the earlier run
    assert (out / "report.html").read_text() == "mine" and "report can't be written" in caplog.text
    assert len(json.loads((out / "run.json").read_text())["sessions"]) == 1
    assert (out / "previous_run_1" / "run.json").exists() and not (out / "previous_run_1" / "report.html").exists()
