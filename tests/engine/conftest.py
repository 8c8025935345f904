"""A configuration that trains in a second, for the tests of what happens around training; programs of two processes."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from reference.small import detector_cfg

from convmae_det.data.shapes import register_shapes, write_shapes


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, train=4, val=2, size=64)
    return root


@pytest.fixture
def shapes_cfg(shapes_folder, tmp_path):
    """``shapes_cfg(KEY, value, …)``: four training images, one in an iteration."""
    register_shapes(shapes_folder)

    def make(*options):
        cfg = detector_cfg("SEED", 3, "OUTPUT_DIR", str(tmp_path / "out"), "DATALOADER.NUM_WORKERS", 0)
        cfg.merge_from_list(["DATASETS.TRAIN", ("shapes_train",), "DATASETS.TEST", ("shapes_val",)])
        cfg.merge_from_list(["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.CONVMAE.DROP_PATH_RATE", 0.2])
        cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", 1, "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.WARMUP_ITERS", 0])
        cfg.merge_from_list(list(options))
        return cfg

    yield make
    register_shapes()


@pytest.fixture
def run_two(python, tmp_path):
    """``run_two(script)`` runs a program here as two processes; returns what their rank0.json, rank1.json contain."""

    def run(script):
        words = [python, str(Path(__file__).parent / script), str(tmp_path)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        processes = [subprocess.Popen([*words, rank], env=environment) for rank in "01"]
        try:
            assert [process.wait(60) for process in processes] == [0, 0]
        finally:
            for process in processes:
                process.kill()
        return [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]

    return run
