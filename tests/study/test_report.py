"""The report has the last numbers of finished runs, mean and deviation over seeds, and says what is missing."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convmae_det.cli import study as command
from convmae_det.study.plan import Study
from convmae_det.study.reading import read_study
from convmae_det.study.report import collect, format_markdown, write_report
from convmae_det.study.state import State, write_state
from convmae_det.visualization.studies import describe_share, draw_convergence, draw_shares

SCRATCH = {(0.5, 1): (1, 20), (0.5, 2): (3, 24), (1.0, 1): (2, 40), (1.0, 2): (4, 41)}


@pytest.fixture
def study(write_study) -> Study:
    return read_study(write_study())


@pytest.fixture
def runs(study):
    """All from scratch are finished, one of the others; its last number is the third, and one is no number."""
    runs = study.list_runs(Path("out"))
    for run in runs:
        name = run.variant.name
        if name == "from scratch" or str(run) == "pretrained, share 1, seed 1":
            early, late = SCRATCH.get((run.share, run.seed)) if name == "from scratch" else (30, 50)
            lines = [{"iteration": 2, "bbox/AP": early, "lr": 1}, {"iteration": 5, "bbox/AP": late}]
            lines.append({"iteration": 5, "bbox/AP50": float("nan"), "total_loss": 1})
            run.folder.mkdir(parents=True)
            (run.folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
            run.result.touch()
            write_state(run, State(True, 60.0))
    return runs


def test_numbers(study, runs):
    table = {(row["variant"], row["share"]): row for row in collect(study, runs)["table"]}
    assert table.keys() == {("from scratch", 0.5), ("from scratch", 1.0), ("pretrained", 1.0)}
    assert table["from scratch", 0.5] == {
        "metric": "bbox/AP",
        "variant": "from scratch",
        "share": 0.5,
        "mean": 22,
        "deviation": statistics.stdev([20, 24]),
        "n": 2,
    }
    assert (table["pretrained", 1.0]["mean"], table["pretrained", 1.0]["deviation"]) == (50, None)


def test_markdown(study, runs):
    text = format_markdown(collect(study, runs))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    assert lines[0] == ["bbox/AP", "50 % of the images", "all images"]
    assert lines[2:] == [
        ["from scratch", "22 ± 2.8 (n=2)", "40.5 ± 0.71 (n=2)"],
        ["pretrained", "–", "50 (n=1)"],
    ]
    assert "study.yaml: 5 of 9 runs are finished; they took 05:00." in text
    assert "Not finished: pretraining, share 1, seed 1; pretrained, share 0.5, seed 1; " in text


def test_a_metric_that_no_run_has_is_named(study, runs):
    result = collect(Study(study.file, ("bbox/APP", "bbox/AP50"), study.variants), runs)
    assert "No finished run has bbox/APP in its metrics.json" in format_markdown(result)
    assert not result["table"]


def test_files(study, runs):
    written = write_report(study, runs, Path("out"))
    assert [path.name for path in written] == ["study.json", "study.md", "convergence.png", "shares.png"]
    result = json.loads(Path("out/study.json").read_text())
    (run,) = (run for run in result["runs"] if run["variant"] == "pretrained" and run["finished"])
    assert run["curves"] == {"bbox/AP": [[2, 30], [5, 50]]} and run["values"] == {"bbox/AP": 50}


def test_nothing_finished_draws_nothing(study):
    Path("out").mkdir()
    assert [path.name for path in write_report(study, study.list_runs(Path("out")), Path("out"))] == [
        "study.json",
        "study.md",
    ]


def test_report_only(runs, capsys):
    assert command.main(["study.yaml", "--output", "out", "--report-only"]) == 0
    assert "5 of 9 runs are finished" in capsys.readouterr().out
    assert not Path("out/runs/pretrained/share-0.5").exists()


def test_the_output_is_by_the_name_of_the_file(study, capsys):
    assert command.main(["study.yaml", "--report-only"]) == 0
    assert Path("output/studies/study/study.json").exists()


def colours(picture: Image.Image) -> set[tuple]:
    return set(map(tuple, np.asarray(picture).reshape(-1, 3).tolist()))


BLUE, ORANGE = (31, 119, 180), (255, 127, 14)


def test_colours_are_those_of_the_variants():
    """Also where another variant has nothing to show."""
    curves = {"b": [[(1, 2.0), (2, 3.0)], [(1, 4.0)]]}
    for picture in (
        draw_convergence({0.1: curves, 1.0: curves}, ["a", "b"], "top1"),
        draw_shares({"b": [(0.1, 1.0, 0.2), (1.0, 3.0, 0.0)]}, ["a", "b"], "top1"),
    ):
        assert ORANGE in colours(picture) and BLUE not in colours(picture)


def test_runs_without_a_common_iteration_are_drawn():
    assert ORANGE not in colours(draw_convergence({1.0: {"a": [[(1, 1.0)], [(2, 2.0)]]}}, ["a"], "top1"))


def test_shares_in_words():
    assert [describe_share(share) for share in (0.07, 0.1, 0.0001, 1.0)] == [
        *("7 % of the images", "10 % of the images", "0.01 % of the images", "all images"),
    ]
