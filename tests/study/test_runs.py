"""Runs are made in their order, go on after an interruption, and fail alone."""

import os
import signal
import sys
from types import SimpleNamespace

import pytest

from convmae_det.cli.study import choose_places
from convmae_det.errors import InputError
from convmae_det.study import runs as module
from convmae_det.study.runs import estimate_seconds, lock_folder, run_unfinished
from convmae_det.study.state import State, read_state, write_state

# Takes the place of training: notes that it was started, and does what an environment variable says.
PROGRAM = """
import os, pathlib, signal, sys, time
words = sys.argv[1:]
out = pathlib.Path(words[words.index("OUTPUT_DIR") + 1])
with open("started.txt", "a") as file:
    print(out, os.environ.get("CUDA_VISIBLE_DEVICES"), sep="|", file=file)
if os.environ.get("FAIL", "?") in str(out):
    sys.exit("error: SOLVER.X is 1; it must be 2")
if os.environ.get("INTERRUPT", "?") in str(out):
    signal.signal(signal.SIGTERM, lambda *_: ((out / "checkpoint").touch(), sys.exit(130)))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
if os.environ.get("WAIT", "?") in str(out):
    time.sleep(60)
(out / "model_final.pth").write_text("weights")
"""


@pytest.fixture(autouse=True)
def program(monkeypatch):
    monkeypatch.setattr(module, "PROGRAM", (sys.executable, "-c", PROGRAM))
    monkeypatch.setattr(module, "PAUSE", 0.01)


@pytest.fixture
def run_all(runs, tmp_path):
    """``run_all()`` returns the number of failures, and the folders of the processes that were started."""
    reports = []

    def run_all(places=({},)):
        (tmp_path / "started.txt").write_text("")
        with lock_folder(tmp_path / "out") as lock:
            failures = run_unfinished(runs, places, lock, lambda: reports.append(1))
        return failures, [line.split("|") for line in (tmp_path / "started.txt").read_text().splitlines()]

    run_all.reports = reports
    return run_all


def test_all_are_run_once(run_all, runs):
    failures, started = run_all()
    assert failures == 0 and [folder for folder, _ in started] == [str(run.folder) for run in runs]
    assert all(read_state(run).finished for run in runs) and len(run_all.reports) == len(runs)
    assert run_all() == (0, [])


def test_several_share_the_cores(run_all, runs):
    places = choose_places(0, 2)
    assert len(places) == 2 and all(int(place["OMP_NUM_THREADS"]) > 0 for place in places)
    failures, started = run_all(places)
    assert failures == 0 and sorted(folder for folder, _ in started) == sorted(str(run.folder) for run in runs)


def test_gpus_and_cores_are_not_shared_at_once():
    with pytest.raises(InputError, match="--at-a-time"):
        choose_places(2, 2)


def test_one_on_each_gpu(run_all, runs, monkeypatch):
    monkeypatch.setattr("convmae_det.cli.study.count_gpus", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    failures, started = run_all(choose_places(2, 1))
    assert failures == 0 and {gpu for _, gpu in started} == {"2", "5"} and len(started) == len(runs)


def test_a_failure_is_named_and_the_others_go_on(run_all, runs, monkeypatch, capsys):
    monkeypatch.setenv("FAIL", "scratch/share-0.5/seed-1")
    failures, started = run_all()
    told = capsys.readouterr().err
    assert failures == 1 and len(started) == len(runs)
    assert "from scratch, share 0.5, seed 1 has failed: SOLVER.X is 1; it must be 2" in told
    assert str(runs[1].folder / "console.txt") in told
    monkeypatch.delenv("FAIL")
    assert run_all() == (0, [[str(runs[1].folder), str(os.environ.get("CUDA_VISIBLE_DEVICES"))]])


def test_what_starts_from_a_failure_is_left_out(run_all, runs, monkeypatch, capsys):
    monkeypatch.setenv("FAIL", "pretraining")
    failures, started = run_all()
    assert failures == 5 and len(started) == 5
    assert "pretrained, share 1, seed 2 is left out: pretraining, share 1, seed 1 has failed" in capsys.readouterr().err


def test_an_interruption_ends_the_runs_with_a_checkpoint(run_all, runs, monkeypatch):
    monkeypatch.setenv("INTERRUPT", "pretrained/share-0.5/seed-1")
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run_all()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert (runs[2].folder / "checkpoint").exists() and not read_state(runs[2]).finished
    assert [read_state(run).finished for run in runs[:3]] == [True, True, False]
    monkeypatch.delenv("INTERRUPT")
    failures, started = run_all()
    assert failures == 0 and started[0][0] == str(runs[2].folder) and len(started) == len(runs) - 2


def test_two_studies_in_a_folder_are_refused(tmp_path):
    with lock_folder(tmp_path), pytest.raises(InputError, match="is at work"), lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path):
        pass


def test_the_time_left_is_that_of_runs_of_the_kind(runs):
    assert estimate_seconds([], runs, runs) is None
    for run, seconds in ((runs[0], 100.0), (runs[1], 10.0), (runs[3], 50.0)):
        run.folder.mkdir(parents=True)
        run.result.touch()
        write_state(run, State(True, seconds))
    assert estimate_seconds([], [runs[5]], runs) == 10  # the same variant and share
    assert estimate_seconds([], [runs[4]], runs) == 50  # the same command and share
    assert estimate_seconds([(runs[4], 20.0)], [runs[5]], runs) == 40
    assert estimate_seconds([(runs[4], 70.0)], [], runs) == 0


def test_no_run_is_left_alone_when_the_study_fails(run_all, runs, monkeypatch):
    """As where the disk is full: what runs on another GPU ends, too."""
    monkeypatch.setattr(module, "_end", lambda part: 1 / 0 if part.run is runs[1] else None)
    monkeypatch.setenv("WAIT", "pretraining")
    with pytest.raises(ZeroDivisionError):
        run_all([{}, {}])
    with lock_folder(runs[0].folder.parents[3]):
        pass


def test_the_time_left_of_a_run_is_that_of_its_log(tmp_path):
    run = SimpleNamespace(folder=tmp_path)
    assert module._find_own_eta(run) == ""
    line = "[11/26 07:25:54] iteration {0} of 90, total_loss 1.08, 38.2 images/s, 2% of it waiting for data, {1} left\n"
    lines = [line.format(1, "1:02:03"), line.format(2, "04:05"), "[…] Evaluating on val: batch 3 of 9, 00:07 left\n"]
    (tmp_path / "log.txt").write_text("".join(lines))
    assert module._find_own_eta(run) == "04:05"
