"""Compares trainings: runs the variants of a study with several seeds and shares of the data, and says what came of it.

Examples:
    convmae-det study configs/studies/pays.yaml --output output/studies/pays
    convmae-det study my_study.yaml --gpus 4                # four runs at a time, each on a GPU of its own
    convmae-det study my_study.yaml --at-a-time 2           # two runs at a time, without GPUs
    convmae-det study my_study.yaml --report-only           # tables and curves of what is finished

Is pretraining on your images worth it? docs/studies.md says how a study file asks. Each run is an ordinary training
with an OUTPUT_DIR of its own in FOLDER/runs. What is finished is not run again, what was interrupted goes on, and a run
that has failed is named, while the others go on. After each, tables and curves are written into FOLDER: study.md,
study.json, convergence.png, shares.png, and at the end report.html. Exit status: 0; 1 if a run has failed, or with a
sentence on what is wrong; 130 after Ctrl-C.
"""

import argparse
import os
from pathlib import Path

from ..config.device import count_gpus
from ..data.stream import count_cores
from ..errors import InputError
from ..report.writing import write_report_at_end
from ..study.plan import Run, Study
from ..study.reading import read_study
from ..study.report import MARKDOWN, write_report
from ..study.runs import lock_folder, run_unfinished
from ..study.state import check_unchanged
from .arguments import check_number, command_parser


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    places = choose_places(args.gpus, args.at_a_time)
    study = read_study(args.study)
    folder = Path(args.output or os.path.join("output", "studies", Path(args.study).stem))
    runs = study.list_runs(folder)
    for run in runs:
        check_unchanged(run)
    failures = 0 if args.report_only else work(study, runs, folder, places)
    folder.mkdir(parents=True, exist_ok=True)
    written = write_report(study, runs, folder)
    if page := write_report_at_end(folder):
        written.append(page)
    print((folder / MARKDOWN).read_text(encoding="utf-8"))
    print(f"{', '.join(map(str, written))} written")
    return 1 if failures else 0


def work(study: Study, runs: list[Run], folder: Path, places: list[dict[str, str]]) -> int:
    """Runs what isn't finished; returns how many runs have failed."""
    with lock_folder(folder) as lock:
        return run_unfinished(runs, places, lock, lambda: write_report(study, runs, folder))


def choose_places(gpus: int, at_a_time: int) -> list[dict[str, str]]:
    """Chooses what each of the processes that may run at a time has as environment variables of its own.

    Args:
        gpus: a process for each of so many; 0: without regard to GPUs
        at_a_time: processes without GPUs of their own, which share the cores

    Raises:
        InputError: this machine has fewer GPUs, or both are asked for.
    """
    check_number("--at-a-time", at_a_time)
    if not gpus:
        if at_a_time == 1:
            return [{}]
        return [{"OMP_NUM_THREADS": str(max(1, count_cores() // at_a_time))}] * at_a_time
    if at_a_time > 1:
        raise InputError("--gpus and --at-a-time both say how many runs there are at a time: leave one out")
    check_number("--gpus", gpus)
    if gpus > count_gpus():
        raise InputError(f"--gpus is {gpus}, but this machine has {count_gpus()} GPUs: lower it, or leave it out")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in visible.split(",")[:gpus]]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("study", __doc__)
    parser.add_argument("study", metavar="STUDY.yaml", help="what to compare")
    parser.add_argument(
        "--output", metavar="FOLDER", help="where all goes; without it, output/studies/ and the file's name"
    )
    parser.add_argument("--gpus", metavar="N", type=int, default=0, help="runs at a time, one on each GPU")
    parser.add_argument(
        "--at-a-time", metavar="N", type=int, default=1, help="runs at a time that share the cores, without GPUs"
    )
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    return parser.parse_intermixed_args(arguments)
