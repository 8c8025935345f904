"""The folder OUTPUT_DIR: what earlier runs, or one that was cut off, left there."""

import glob
import logging
import os

logger = logging.getLogger(__name__)

# What a run leaves in OUTPUT_DIR that another run would overwrite or append to.
RUN_FILES = ("*.pth", "last_checkpoint", "metrics.json", "config.yaml", "events.out.tfevents.*")
RUN_FILES += ("reconstructions", "skipped_images.log")


def set_aside_earlier_run(output_dir: str) -> None:
    """Moves the files of an earlier run, if it left a checkpoint, to a folder previous_run_1, 2, … of their own."""
    if not os.path.exists(os.path.join(output_dir, "last_checkpoint")):
        return
    number = 1
    while os.path.exists(folder := os.path.join(output_dir, f"previous_run_{number}")):
        number += 1
    os.mkdir(folder)
    for pattern in RUN_FILES:
        for path in glob.glob(os.path.join(glob.escape(output_dir), pattern)):
            os.replace(path, os.path.join(folder, os.path.basename(path)))
    logger.warning(
        f"{output_dir} held another run (--resume would have gone on with it): its files are now in {folder}"
    )


def end_last_line(path: str) -> None:
    """A line that was cut off, on a full disk or by a kill, shall not take the next one with it."""
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
