"""3,000 iterations of each script: the memory in use and the open files stay what they are after the first 1,000.

Until then, Detectron2's storage fills up with the last 1,000 values of each metric.
"""

import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import pytest
from detectron2.engine import HookBase
from slow.faults import Run, command

pytestmark = pytest.mark.slow

ITERATIONS, PERIOD, IGNORED = 3000, 100, 1000
OPTIONS = (
    *("SOLVER.MAX_ITER", ITERATIONS),
    *("SOLVER.IMS_PER_BATCH", 1),
    *("SOLVER.CHECKPOINT_PERIOD", 250),
    *("SOLVER.MAX_TO_KEEP", 2),
    *("SOLVER.EMA.DECAY", 0.9),
    *("DATALOADER.NUM_WORKERS", 1),
)
# Evaluations leave gaps in the heap, fewer and fewer: most of them in the iterations that are left out.
MORE = {
    "train_net": ("TEST.EVAL_PERIOD", 40, "INPUT.LSJ.IMAGE_SIZE", 32, "MODEL.CONVMAE.IMAGE_SIZE", 32),
    "pretrain_net": ("VIS_PERIOD", 500, "MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 32),
}
SLOPE = 2.0  # MB in 1,000 iterations: a leak of 2 kB in each


class Sampler(HookBase):
    """Appends resident memory in bytes and the number of open files to OUTPUT_DIR/samples.txt."""

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % PERIOD == PERIOD // 2:  # between evaluations, checkpoints and pictures
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system, lest it hide what isn't
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            with open(f"{self.trainer.cfg.OUTPUT_DIR}/samples.txt", "a") as file:
                files = len(os.listdir("/proc/self/fd"))
                file.write(f"{self.trainer.iter} {pages * os.sysconf('SC_PAGE_SIZE')} {files}\n")


def sample(trainer: type) -> None:
    build = trainer.build_hooks
    trainer.build_hooks = lambda this: [*build(this), Sampler()]


@pytest.mark.parametrize("script", ["train_net", "pretrain_net"])
def test_memory_and_open_files_stay_flat(shapes, tmp_path, script):
    out = tmp_path / "out"
    run = Run(script, command(script, shapes, out, *OPTIONS, *MORE[script]), tmp_path / "output.txt", sample)
    assert run.wait(900) == 0, run.text()[-3000:]
    iterations, memory, files = np.loadtxt(out / "samples.txt").T
    later = iterations > IGNORED
    (slope, _), covariance = np.polyfit(iterations[later] / 1000, memory[later] / 1e6, 1, cov=True)
    noise, mean, grown = covariance[0, 0] ** 0.5, memory[later].mean() / 1e6, np.ptp(memory[later]) / 1e6
    print(
        f"{script}, {ITERATIONS} iterations: memory {mean:.0f} MB, slope {slope:+.2f} ± {noise:.2f} MB in 1,000 "
        f"iterations, range {grown:.1f} MB; open files {files[later].min():.0f} to {files[later].max():.0f}"
    )
    assert slope < SLOPE + 2 * noise
    assert files[later].max() == files[~later].max()  # now and then two fewer: no batch is being handed over
    assert len(list(out.glob("model_00*.pth"))) == 2
