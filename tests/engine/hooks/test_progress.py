"""Speed and waiting, as they were over the last iterations together."""

import logging
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from convmae_det.engine.hooks import progress


def run(monkeypatch, seconds, waited, period, **of):
    """What the storage holds after each of as many iterations as there are `seconds`."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock.now)
    hook, values = progress.ProgressHook(period=period, **of), []
    hook.trainer = SimpleNamespace(iter=0, max_iter=len(seconds))
    with EventStorage() as storage:
        for hook.trainer.iter, (duration, wait) in enumerate(zip(seconds, waited, strict=True)):
            hook.before_step()
            clock.now += duration
            storage.put_scalar("data_time", wait)
            hook.after_step()
            clock.now += 100.0  # what other hooks take
            values.append({name: value for name, (value, _) in storage.latest().items()})
            storage.step()
    return values


def test_one_long_wait_among_short_ones_shows(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "convmae_det"):
        values = run(monkeypatch, [1, 1, 1, 7, 1, 1], [0, 0, 0, 6, 0, 0], period=4, num_images=8, images_per_step=2)
    assert [value["images_per_second"] for value in values] == pytest.approx([2, 2, 2, 0.8, 0.8, 0.8])
    assert [value["data_share"] for value in values] == pytest.approx([0, 0, 0, 0.6, 0.6, 0.6])
    assert [value["epoch"] for value in values] == pytest.approx([0.25, 0.5, 0.75, 1, 1.25, 1.5])
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 1.00 of 1.50, 0.8 images/s, 60% of it waiting for data",
        "epoch 1.50 of 1.50, 0.8 images/s, 60% of it waiting for data",
    ]


def test_a_wait_that_another_process_measured_is_no_longer_than_the_iteration(monkeypatch):
    (value,) = run(monkeypatch, [1], [1.5], period=1, num_images=1, images_per_step=1)
    assert value["data_share"] == 1
