"""Runs what isn't finished of a study: each training in a process of its own, one at a time or several."""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import InputError
from .plan import Run
from .state import compute_weights_fingerprint, read_state, write_state

PROGRAM = (sys.executable, "-m", "convmae_det")
CONSOLE = "console.txt"  # in OUTPUT_DIR: what the process says, beside log.txt
LOCK = ".study.lock"
PAUSE = 0.2  # seconds between looks at the processes
TAIL = 20_000  # bytes of a log, enough for its last lines


@dataclass(frozen=True)
class Part:
    """A process that trains, until it ends or is interrupted."""

    run: Run
    process: subprocess.Popen
    place: int  # of the process among those that may run at a time
    start: float  # time.monotonic()


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Holds the folder of a study for this process and those that it starts, which inherit the open file.

    Yields:
        its descriptor

    Raises:
        InputError: another study, or a training that one has left, is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"{folder} is at work: wait for the study, or end it, or choose another --output"
            ) from error
        yield file.fileno()


def run_unfinished(
    runs: Sequence[Run], places: Sequence[Mapping[str, str]], lock: int, report: Callable[[], object]
) -> int:
    """Runs what isn't finished, after that from which it starts.

    Args:
        runs: all of the study, in the order that is wanted
        places: what each of the processes that may run at a time has as environment variables of its own
        lock: a file that they inherit
        report: called whenever a run has ended well

    Returns:
        how many runs are not finished, because they, or what they start from, failed

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when all processes have ended with a checkpoint.
    """
    states = {run: read_state(run) for run in runs}
    waiting = [run for run in runs if not states[run].finished]
    active: list[Part] = []
    failed: set[Run] = set()
    with _interruptible(), _Progress(runs, len(places)) as progress:
        try:
            while waiting or active:
                for run in [run for run in waiting if run.source in failed]:
                    progress.say(f"{run} is left out: {run.source} has failed")
                    failed.add(run)
                    waiting.remove(run)
                for place in set(range(len(places))) - {part.place for part in active}:
                    ready = (run for run in waiting if run.source is None or read_state(run.source).finished)
                    if run := next(ready, None):
                        waiting.remove(run)
                        active.append(_start(run, place, places[place], lock))
                progress.show(active, waiting)
                for part in [part for part in active if part.process.poll() is not None]:
                    active.remove(part)
                    if _end(part):
                        progress.count()
                        report()
                    else:
                        failed.add(part.run)
                        progress.say(_describe_failure(part))
                time.sleep(PAUSE if active else 0)
        except BaseException:  # also where a report can't be written
            if active:
                progress.say("Waiting for what runs to write a checkpoint, from which the same command goes on")
            _stop(active)
            raise
    return len(failed)


def _start(run: Run, place: int, variables: Mapping[str, str], lock: int) -> Part:
    run.folder.mkdir(parents=True, exist_ok=True)
    write_state(run, read_state(run)._replace(weights=compute_weights_fingerprint(run)))
    with (run.folder / CONSOLE).open("ab") as console:
        streams = {"stdin": subprocess.DEVNULL, "stdout": console, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([*PROGRAM, *run.words], env=os.environ | variables, pass_fds=[lock], **streams)
    return Part(run, process, place, time.monotonic())


def _end(part: Part) -> bool:
    """Notes what became of a run whose process has ended, and returns whether it is finished."""
    state, seconds = read_state(part.run), time.monotonic() - part.start
    finished = part.process.returncode == 0 and part.run.result.is_file()
    write_state(part.run, state._replace(finished=finished, seconds=state.seconds + seconds))
    return finished


def _stop(active: Sequence[Part]) -> None:
    """Has all processes write a checkpoint and end; a second Ctrl-C, which they receive too, ends them at once."""
    for part in active:
        part.process.terminate()
    for part in active:
        part.process.wait()
        _end(part)


def _describe_failure(part: Part) -> str:
    console = part.run.folder / CONSOLE
    errors = re.findall(r"^error: (.*)$", _read_tail(console), re.MULTILINE)
    reason = f": {errors[-1]}" if errors else f" with exit status {part.process.returncode}"
    return f"{part.run} has failed{reason}\n  {console} holds all that it said; the same command tries it again"


def _read_tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Makes SIGTERM, as clusters send it, the same as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Progress:
    """The line that shows how many runs are finished, what is running, and the time that is left."""

    def __init__(self, runs: Sequence[Run], at_a_time: int):
        self.runs, self.at_a_time = runs, at_a_time
        done = sum(read_state(run).finished for run in runs)
        self.bar = tqdm(total=len(runs), initial=done, unit="run", bar_format="{n_fmt} of {total_fmt} runs{postfix}")
        self.shown, self.running = 0.0, ""

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.set_postfix_str("", refresh=False)
        self.bar.close()

    def count(self) -> None:
        self.bar.update()

    def say(self, sentence: str) -> None:
        self.bar.write(sentence, file=sys.stderr)

    def show(self, active: Sequence[Part], waiting: Sequence[Run]) -> None:
        """Shows what runs, in a line that changes in a terminal, and elsewhere whenever another run begins."""
        now, running = time.monotonic(), "; ".join(str(part.run) for part in active)
        if now - self.shown < (1 if self.bar.disable or sys.stderr.isatty() else 60) and running == self.running:
            return
        etas = [_find_own_eta(part.run) for part in active]
        left = estimate_seconds([(part.run, now - part.start) for part in active], waiting, self.runs)
        self.shown, self.running = now, running
        shown = [f"{part.run}{f' ({eta} left)' if eta else ''}" for part, eta in zip(active, etas, strict=True)]
        total = "" if left is None else f"; about {tqdm.format_interval(left / self.at_a_time)} left in all"
        self.bar.set_postfix_str("; ".join(shown) + total)


def _find_own_eta(run: Run) -> str:
    """Finds the time left for training, without the evaluation, that a run has logged last."""
    found = re.findall(r"images/s.*, ([\d:]+) left$", _read_tail(run.folder / "log.txt"), re.MULTILINE)
    return found[-1] if found else ""


def estimate_seconds(active: Sequence[tuple[Run, float]], waiting: Sequence[Run], runs: Sequence[Run]) -> float | None:
    """Estimates the time for what isn't finished, one run after the other; None while nothing is known.

    A run takes as long as those of the same variant and share took; else, as those of the same share or of the same
    command.

    Args:
        active: runs that are being made, and the seconds that they have taken since this program started them
        waiting: runs that will be made
        runs: all of them
    """
    known = {run: state.seconds for run in runs if (state := read_state(run)).finished}
    if not known:
        return None

    def estimate(run: Run) -> float:
        kinds = [
            [seconds for other, seconds in known.items() if (other.variant, other.share) == (run.variant, run.share)],
            [seconds for other, seconds in known.items() if _describe_kind(other) == _describe_kind(run)],
            list(known.values()),
        ]
        seconds = next(filter(None, kinds))
        return sum(seconds) / len(seconds)

    rest = sum(max(0.0, estimate(run) - read_state(run).seconds - seconds) for run, seconds in active)
    return rest + sum(estimate(run) for run in waiting)


def _describe_kind(run: Run) -> tuple[str, float]:
    return run.variant.command, run.share
