import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmae_det.errors import InputError
from convmae_det.evaluation.metrics_file import read_metrics
from convmae_det.visualization.curves import choose_titles, draw_curves


def write(path, records, tail: str = "") -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    return str(path)


def losses(iterations, value: float, **others) -> list[dict]:
    return [{"iteration": i, "total_loss": value, "lr": 0.1, **others} for i in iterations]


def test_what_a_run_wrote_after_its_checkpoint_gives_way(tmp_path):
    first, resumed = losses(range(19, 200, 20), 1.0), losses(range(110, 150, 20), 2.0)
    curve = read_metrics(write(tmp_path / "metrics.json", first + resumed))["total_loss"]
    assert curve == [(19, 1), (39, 1), (59, 1), (79, 1), (99, 1), (110, 2), (130, 2)]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=6))
def test_the_last_value_wins_whatever_the_restarts(tmp_path_factory, attempts):
    """Attempt a runs from `start` on for `length` iterations; each iteration's value says which wrote it."""
    folder, expected, records = tmp_path_factory.mktemp("run"), {}, []
    for attempt, (start, length) in enumerate(attempts):
        start = min(start, max(expected, default=-1) + 1)  # a run can't resume from where it has never been
        expected = {i: value for i, value in expected.items() if i < start}
        expected |= dict.fromkeys(range(start, start + length), float(attempt))
        records += losses(range(start, start + length), float(attempt))
    write(folder / "metrics.json", records)
    assert read_metrics(str(folder))["total_loss"] == list(expected.items())


def test_an_evaluation_written_late_leaves_other_numbers_alone(tmp_path):
    records = [*losses(range(0, 60, 20), 1.0), {"iteration": 39, "bbox/AP": 12.5}]
    curves = read_metrics(write(tmp_path / "metrics.json", records))
    assert curves["total_loss"] == [(0, 1), (20, 1), (40, 1)] and curves["bbox/AP"] == [(39, 12.5)]


def test_lines_that_were_cut_off_are_left_out(tmp_path):
    path = tmp_path / "metrics.json"
    whole = losses(range(5), 1.0)
    half = json.dumps(whole[0])[:20]
    path.write_text(half + "".join(json.dumps(record) + "\n" for record in whole) + 'null\n{"x": 1}\n' + half)
    assert read_metrics(str(path))["total_loss"] == [(i, 1.0) for i in range(1, 5)]


def test_numbers_that_are_not_finite_leave_a_gap(tmp_path):
    values = [1.0, math.nan, math.inf, 2.0]
    records = [{"iteration": i, "total_loss": value, "note": "text"} for i, value in enumerate(values)]
    curves = read_metrics(write(tmp_path / "metrics.json", records))
    assert [math.isnan(value) for _, value in curves["total_loss"]] == [False, True, True, False]
    assert "note" not in curves
    draw_curves({"run": curves})


def pixels(**runs) -> np.ndarray:
    return np.asarray(draw_curves(runs))


def test_a_panel_for_each_number(tmp_path):
    loss = [(i, 1.0 - i / 100) for i in range(100)]
    few = pixels(run={"total_loss": loss, "lr": loss})
    unknown = pixels(run={"total_loss": loss, "lr": loss, "eta_seconds": loss, "bbox/AP50": loss})
    assert np.array_equal(few, unknown)
    names = ("total_loss", "loss_cls", "loss_box_reg", "lr", "bbox/AP", "shapes_val/segm/AP", "images_per_second")
    many = pixels(run=dict.fromkeys(names, loss))
    assert many.shape[1] > 1.5 * few.shape[1] and many.shape[0] > 1.5 * few.shape[0]  # two rows of up to four


def test_panels_of_probes():
    names = ("features/rank", "probe/a/b/rank", "total_loss", "probe/mine/knn_top1", "probe/mine/other")
    assert choose_titles(names) == {
        "total_loss": "total loss",
        "probe/mine/knn_top1": "k-NN top-1 (%) mine",
        "features/rank": "rank of features",
        "probe/a/b/rank": "rank of features a/b",
    }


def test_runs_are_laid_over_one_another():
    falling, rising = [(i, 1.0 - i / 100) for i in range(100)], [(i, i / 100) for i in range(100)]
    both = pixels(a={"total_loss": falling}, b={"total_loss": rising, "bbox/AP": [(99, 30.0)]})
    for number in range(2):  # each in its colour
        assert drawn(both, number)
    assert not drawn(pixels(a={"total_loss": falling}), 1)


def test_a_single_point_is_visible():
    assert drawn(pixels(a={"bbox/AP": [(99, 30.0)]})[60:], 0)  # below the legend


def drawn(picture: np.ndarray, number: int) -> bool:
    colour = [(31, 119, 180), (255, 127, 14)][number]  # matplotlib's first and second
    return bool((np.abs(picture.astype(int) - colour).max(-1) <= 8).any())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("hello\nworld\n", "holds no metrics"),
        ('{"iteration": 3, "something_else": 1.0}\n', "holds no metrics"),
        ('[{"total_loss": 1.0, "iteration": 3}]\n', "holds no metrics"),
    ],
)
def test_files_without_metrics(tmp_path, content, sentence):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=sentence):
        read_metrics(str(tmp_path))


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json can't be read \(No such file"):
        read_metrics(str(tmp_path))
