"""The folder OUTPUT_DIR, and what earlier or interrupted runs left there."""

import glob
import itertools
import logging
import os
import tempfile
from collections.abc import Collection, Iterable

from ..checkpoint.record import RECORD, has_record, is_recorded
from ..errors import InputError
from ..report.page import REPORT, is_page
from ..report.run_record import RECORD as RUN_RECORD
from .trackers.process import RECORD as TRACKER_RECORD

logger = logging.getLogger(__name__)

FINAL, FINAL_AVERAGE, BEST = "model_final.pth", "model_final_ema.pth", "model_best.pth"
NUMBERED = "model_" + "[0-9]" * 7 + ".pth"
WEIGHTS = (FINAL, FINAL_AVERAGE, BEST, NUMBERED)  # the run's own are in its record

# What else a run leaves in OUTPUT_DIR that another run would overwrite or append to; the folder's, if it has a record.
RUN_FILES = ("last_checkpoint", "metrics.json", "config.yaml", "skipped_images.log")
RUN_FILES += (RUN_RECORD, TRACKER_RECORD.format("*"), "reconstructions/" + "[0-9]" * 7 + ".png")
WHOLE = (*WEIGHTS, "last_checkpoint", "config.yaml", RUN_RECORD)  # written under a temporary name first
KEPT = ("events.out.tfevents.*", RECORD)  # with an earlier run's; no other run writes them

# What of a run, beside its numbers and pictures, is worth keeping elsewhere: see `list_documents`.
DOCUMENTS = ("config.yaml", "metrics.json", "log.txt", "curves.png", "report.html", "inference/**/evaluation.json")

# What a run appends to or opens directly. All other files are written under a temporary name, which replaces a link.
OPENED = (RECORD, "metrics.json", "log.txt*", "skipped_images.log", "inference", "inference/*", "reconstructions")


def make_output_folder(output_dir: str) -> None:
    """Makes the folder, if there is none, and checks that a run can write there, and through no link elsewhere.

    Raises:
        InputError: nothing can be written there, or there is such a link.
    """
    try:
        os.makedirs(output_dir, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir):
            pass
    except OSError as error:
        raise InputError(f"OUTPUT_DIR {output_dir!r} can't be written to ({error.strerror}): choose another") from error
    for pattern in OPENED:
        for path in glob.glob(os.path.join(glob.escape(output_dir), pattern)):
            if os.path.islink(path):
                raise InputError(
                    f"{path} is a link to {os.readlink(path)}, where this run must not write: remove the link, or "
                    "choose another OUTPUT_DIR"
                )


def move_earlier_run(output_dir: str) -> None:
    """Moves the files of an earlier run, if it left a checkpoint, to a new folder previous_run_1, 2, …

    Only what a run wrote is moved.
    """
    if not has_record(output_dir) or not os.path.exists(os.path.join(output_dir, "last_checkpoint")):
        return
    number = 1
    while os.path.exists(folder := os.path.join(output_dir, f"previous_run_{number}")):
        number += 1
    os.mkdir(folder)
    own = filter(is_recorded, _find(output_dir, WEIGHTS))
    pages = filter(is_page, _find(output_dir, [REPORT]))
    for path in [*own, *pages, *_find(output_dir, RUN_FILES + KEPT)]:  # the record last
        target = os.path.join(folder, os.path.relpath(path, output_dir))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(path, target)
    logger.warning(f"{output_dir} held another run (--resume would have continued it): its files are now in {folder}")


def check_strangers(output_dir: str, weights: Collection[str], iterations: range) -> None:
    """Checks that a run would overwrite nothing that no run wrote.

    Args:
        output_dir: where an earlier run has been moved away, or is continued
        weights: names of the files that the run will write, beside numbered checkpoints
        iterations: those that the run will make, after any of which it may write a checkpoint

    Raises:
        InputError: it would.
    """
    numbered = [path for path in _find(output_dir, [NUMBERED]) if int(path[-11:-4]) in iterations]
    strangers = [path for path in [*_find(output_dir, weights), *numbered] if not is_recorded(path)]
    if iterations.start == 0 and not has_record(output_dir):
        strangers += _find(output_dir, RUN_FILES)
    if strangers:
        raise InputError(
            f"{strangers[0]} would be overwritten, and by the record in {RECORD} no run wrote it: rename it, or choose "
            "another OUTPUT_DIR"
        )


def list_documents(output_dir: str) -> list[str]:
    """Lists the DOCUMENTS that there are, by their paths in the folder."""
    found = (glob.glob(pattern, root_dir=output_dir, recursive=True) for pattern in DOCUMENTS)
    return sorted(itertools.chain.from_iterable(found))


def _find(output_dir: str, patterns: Iterable[str]) -> list[str]:
    return [path for pattern in patterns for path in sorted(glob.glob(os.path.join(glob.escape(output_dir), pattern)))]


def complete_last_line(path: str) -> None:
    """Ends an incomplete last line, which a full disk or a kill left, so that the next line is separate."""
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
