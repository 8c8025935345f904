"""The folder OUTPUT_DIR: what earlier runs, or one that was cut off, left there."""

import glob
import logging
import os

from ..errors import InputError

logger = logging.getLogger(__name__)

# What a run leaves in OUTPUT_DIR that another run would overwrite or append to.
RUN_FILES = ("*.pth", "last_checkpoint", "metrics.json", "config.yaml", "events.out.tfevents.*")
RUN_FILES += ("reconstructions", "skipped_images.log")

# What a run appends to or opens as it is. All else is written under a temporary name, which takes a link's place.
OPENED = ("metrics.json", "log.txt*", "skipped_images.log", "inference", "inference/*", "reconstructions")


def check_links(output_dir: str) -> None:
    """Raises InputError for a link through which a run would write to other places than OUTPUT_DIR."""
    for pattern in OPENED:
        for path in glob.glob(os.path.join(glob.escape(output_dir), pattern)):
            if os.path.islink(path):
                raise InputError(
                    f"{path} is a link to {os.readlink(path)}, where this run shall write nothing: remove the link, or "
                    "choose another OUTPUT_DIR"
                )


def move_earlier_run(output_dir: str) -> None:
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


def complete_last_line(path: str) -> None:
    """A line that was cut off, on a full disk or by a kill, shall not take the next one with it."""
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
