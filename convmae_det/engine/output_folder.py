"""The folder OUTPUT_DIR, and what earlier or interrupted runs left there."""

import glob
import logging
import os

from ..errors import InputError

logger = logging.getLogger(__name__)

# What a run leaves in OUTPUT_DIR that another run would overwrite or append to.
RUN_FILES = ("*.pth", "last_checkpoint", "metrics.json", "config.yaml", "events.out.tfevents.*")
RUN_FILES += ("reconstructions", "skipped_images.log")

# What a run appends to or opens directly. All other files are written under a temporary name, which replaces a link.
OPENED = ("metrics.json", "log.txt*", "skipped_images.log", "inference", "inference/*", "reconstructions")


def check_links(output_dir: str) -> None:
    """Checks that no link makes a run write outside OUTPUT_DIR.

    Raises:
        InputError: there is one.
    """
    for pattern in OPENED:
        for path in glob.glob(os.path.join(glob.escape(output_dir), pattern)):
            if os.path.islink(path):
                raise InputError(
                    f"{path} is a link to {os.readlink(path)}, where this run must not write: remove the link, or "
                    "choose another OUTPUT_DIR"
                )


def move_earlier_run(output_dir: str) -> None:
    """Moves the files of an earlier run, if it left a checkpoint, to a new folder previous_run_1, 2, …"""
    if not os.path.exists(os.path.join(output_dir, "last_checkpoint")):
        return
    number = 1
    while os.path.exists(folder := os.path.join(output_dir, f"previous_run_{number}")):
        number += 1
    os.mkdir(folder)
    for pattern in RUN_FILES:
        for path in glob.glob(os.path.join(glob.escape(output_dir), pattern)):
            os.replace(path, os.path.join(folder, os.path.basename(path)))
    logger.warning(f"{output_dir} held another run (--resume would have continued it): its files are now in {folder}")


def complete_last_line(path: str) -> None:
    """Ends an incomplete last line, which a full disk or a kill left, so that the next line is separate."""
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
