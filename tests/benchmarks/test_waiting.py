"""The time in which training waits for images is measured on what our loaders give."""

import argparse

import pytest

from benchmarks import data, steps, waiting

SMALL = argparse.Namespace(arch="tiny", batch=2, dtype="float32", device="cpu", compile=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    data.write_images(folder, 3)
    return folder


@pytest.mark.parametrize("kind", steps.LOADED)
def test_steps_are_made_on_batches_of_real_images(kind, images):
    seen, workload = [], steps.Workload(kind, steps.OURS, 64, SMALL)

    def train_on(batch):
        seen.append(len(batch["images"]) if isinstance(batch, dict) else len(batch))
        if len(seen) == 1:
            before = {name: weight.clone() for name, weight in workload.model.named_parameters()}
            workload.train_on(batch)
            assert any((weight != before[name]).any() for name, weight in workload.model.named_parameters())

    args = argparse.Namespace(**vars(SMALL), images=str(images))
    share = waiting.measure_waiting(kind, 64, args, train_on)
    assert seen == [2] * (waiting.WARM_UP + waiting.STEPS) and 0 <= share <= 1


def test_the_share_is_that_of_waiting(monkeypatch, images):
    """By a clock that a reader and a step move on."""
    now = [0.0]
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: now[0])

    def pass_time(seconds, value=None):
        now[0] += seconds
        return value

    monkeypatch.setattr(waiting, "load", lambda *_: iter(lambda: pass_time(1, {}), None))
    args = argparse.Namespace(**vars(SMALL), images=str(images))
    assert waiting.measure_waiting(steps.PRETRAINING, 64, args, lambda batch: pass_time(3)) == 0.25
