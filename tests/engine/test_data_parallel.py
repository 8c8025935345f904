"""Two processes on the CPU, started as torchrun starts them, train as one process does."""

import os
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from reference import small

from convmae_det.data.shapes import register_shapes, write_shapes
from convmae_det.engine.detection import DetectionTrainer

PROCESSES = 2
HERE = Path(__file__).parent

# Each image's share of the losses doesn't depend on the other images of its batch: all have the same size, all anchors
# and a fixed number of proposals count. There are no masks, because their loss is a mean over all objects.
SAME_WEIGHT_FOR_ALL_IMAGES = [
    *("INPUT.LSJ.MIN_SCALE", 1.0),
    *("MODEL.MASK_ON", False),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 10000),
    *("MODEL.RPN.POSITIVE_FRACTION", 1.0),
    *("MODEL.RPN.NMS_THRESH", 1.1),
    *("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", False),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 10000),
    *("MODEL.ROI_HEADS.POSITIVE_FRACTION", 1.0),
]
TRAINING = [
    *("SEED", 3),
    *("DATALOADER.NUM_WORKERS", 0),
    *("DATASETS.TRAIN", ("shapes_train",)),
    *("DATASETS.TEST", ()),
    *("SOLVER.IMS_PER_BATCH", 2),
    *("SOLVER.WARMUP_ITERS", 0),
    *("SOLVER.MAX_ITER", 1),
]
OPTIONS = [*SAME_WEIGHT_FOR_ALL_IMAGES, *TRAINING]


def train_in_processes(python: str, root: Path, out: Path) -> list[dict]:
    """What each process saved."""
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = [str(word) for word in (*small.ENCODER, *small.DETECTOR, *OPTIONS, "OUTPUT_DIR", out)]
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parents[1]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(PROCESSES),
        "LOCAL_WORLD_SIZE": str(PROCESSES),
    }
    processes = [
        subprocess.Popen(
            [python, str(HERE / "two_processes.py"), str(root), *options],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return [torch.load(out / f"rank{rank}.pt") for rank in range(PROCESSES)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, train=4, val=1, size=64)
    register_shapes(root)
    yield root
    register_shapes()


@pytest.fixture(scope="module")
def saved(python, root, tmp_path_factory):
    return train_in_processes(python, root, tmp_path_factory.mktemp("run") / "out")


def gradients_in_one_process(out, *options):
    trainer = DetectionTrainer(small.detector_cfg(*OPTIONS, "OUTPUT_DIR", str(out), *options))
    trainer.train()
    return {name: p.grad for name, p in trainer.checkpointer.model.named_parameters()}


@pytest.mark.parametrize(
    "kind, options",
    [
        ("plain", ["SOLVER.MAX_ITER", 2]),
        ("accumulated", ["SOLVER.IMS_PER_BATCH", 4]),
    ],
)
def test_two_processes_have_the_gradients_of_one(saved, tmp_path, kind, options):
    expected = gradients_in_one_process(tmp_path, *options)
    largest = max(gradient.abs().max() for gradient in expected.values())
    for result in saved:
        assert result[kind].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(result[kind][name], gradient, rtol=1e-4, atol=1e-6 * largest.item())


def test_all_processes_stop_where_one_has_a_bad_loss(saved):
    for result in saved:
        assert "predictions nan; images" in result["error"]
