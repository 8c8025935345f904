"""How far an evaluation is: a bar on a terminal, elsewhere a line a minute."""

import logging
from types import SimpleNamespace

import pytest

from convmae_det.engine import progress


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    return clock


def use(loader, clock, seconds):
    for _ in loader:
        clock.now += seconds


def test_a_line_a_minute_and_one_at_the_end(clock, caplog, capsys):
    loader = progress.ShownLoader(range(1500), "Evaluating")
    assert len(loader) == 1500
    with caplog.at_level(logging.INFO, "convmae_det"):
        use(loader, clock, 0.125)
    assert caplog.messages == [
        "Evaluating: batch 481 of 1,500, 02:07 left",
        "Evaluating: batch 962 of 1,500, 01:07 left",
        "Evaluating: batch 1,443 of 1,500, 00:07 left",
        "Evaluating: 1,500 batches in 03:07",
    ]
    assert capsys.readouterr().err == ""


def test_a_bar_takes_the_place_of_lines_and_goes(clock, caplog, capsys, monkeypatch):
    monkeypatch.setattr(progress, "shows_bars", lambda: True)
    with caplog.at_level(logging.INFO, "convmae_det"):
        use(progress.ShownLoader(range(3), "Evaluating"), clock, 90)
    shown = capsys.readouterr().err
    assert "Evaluating:   0%" in shown and "0/3" in shown
    assert shown.rstrip("\r").endswith(" ") and shown.endswith("\r")  # wiped, and the next line begins there
    assert caplog.messages == ["Evaluating: 3 batches in 04:30"]


def test_other_processes_show_nothing(monkeypatch, clock, caplog):
    monkeypatch.setattr(progress.comm, "is_main_process", lambda: False)
    with caplog.at_level(logging.DEBUG, "convmae_det"):
        use(progress.ShownLoader(range(3), "Evaluating"), clock, 90)
    assert not progress.shows_bars() and not caplog.messages
