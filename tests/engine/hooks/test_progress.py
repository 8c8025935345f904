"""Speed and waiting, as they were over the last iterations together, and when they are said."""

import logging
import re
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from convmae_det.engine.hooks import progress


def run(monkeypatch, seconds, waited, period, between=5.0, **of):
    """What the storage holds after each of as many iterations as there are `seconds`."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock.now)
    hook, values = progress.ProgressHook(period=period, **of), []
    hook.trainer = SimpleNamespace(iter=0, start_iter=0, max_iter=len(seconds))
    hook.before_train()
    with EventStorage() as storage:
        for hook.trainer.iter, (duration, wait) in enumerate(zip(seconds, waited, strict=True)):
            hook.before_step()
            clock.now += duration
            storage.put_scalars(data_time=wait, total_loss=duration)
            hook.after_step()
            clock.now += between  # what other hooks take
            values.append({name: value for name, (value, _) in storage.latest().items()})
            storage.step()
    return values


def test_one_long_wait_among_short_ones_shows(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "convmae_det"):
        values = run(monkeypatch, [1, 1, 1, 7, 1, 1], [0, 0, 0, 6, 0, 0], period=4, num_images=8, images_per_step=2)
    assert [value["images_per_second"] for value in values] == pytest.approx([2, 2, 2, 0.8, 0.8, 0.8])
    assert [value["data_share"] for value in values] == pytest.approx([0, 0, 0, 0.6, 0.6, 0.6])
    assert [value["epoch"] for value in values] == pytest.approx([0.25, 0.5, 0.75, 1, 1.25, 1.5])
    assert [value["eta_seconds"] for value in values] == pytest.approx([5, 4, 3, 5, 2.5, 0])
    assert caplog.messages == [
        "iteration 1 of 6, epoch 0.25 of 1.50, total_loss 1, 2.0 images/s, 0% of it waiting for data, 00:05 left",
        "iteration 6 of 6, epoch 1.50 of 1.50, total_loss 1, 0.8 images/s, 60% of it waiting for data, 00:00 left",
    ]


@pytest.mark.parametrize(
    "seconds, written",
    [
        ([1] * 10, [1, 10]),  # after the first and the last
        ([30] * 10, [1, 3, 5, 7, 9, 10]),
        ([40] * 4, [1, 2, 3, 4]),  # after the second already, since after the third a minute will be over
        ([70] * 4, [1, 2, 3, 4]),
        ([1, 1, 58, 1, 60], [1, 3, 5]),
    ],
)
def test_at_least_a_line_a_minute_and_one_after_the_first_iteration(monkeypatch, caplog, seconds, written):
    of = dict(num_images=8, images_per_step=2, period=8, between=0.0)
    with caplog.at_level(logging.INFO, "convmae_det"):
        run(monkeypatch, seconds, [0] * len(seconds), **of)
    assert [int(re.match(r"iteration (\d+) of", line)[1]) for line in caplog.messages] == written


def test_large_numbers_can_be_read(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "convmae_det"):
        run(monkeypatch, [0.04] * 1502, [0] * 1502, period=2, num_images=8, images_per_step=2, between=0)
    assert caplog.messages[-1].startswith("iteration 1,502 of 1,502, ")


def test_a_wait_that_another_process_measured_is_no_longer_than_the_iteration(monkeypatch):
    (value,) = run(monkeypatch, [1], [1.5], period=1, num_images=1, images_per_step=1)
    assert value["data_share"] == 1
