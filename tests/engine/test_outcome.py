"""The outcome of a step, read at once or late: the same metrics and weights, and no update from a bad step."""

import math
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from reference.host_waits import list_waits
from reference.small import autoencoder_cfg
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from convmae_det.engine.hooks.average import build_average
from convmae_det.engine.outcome import Outcome, SharedNumbers
from convmae_det.engine.step import TrainingStep
from convmae_det.errors import TrainingError

CPU = torch.device("cpu")


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))

    def forward(self, batch):
        x = torch.stack([image["x"] for image in batch])
        return {"square": (x * self.weight).square().mean(), "level": (x - self.weight).abs().mean()}


def batches(count, bad=None):
    drawn = torch.Generator().manual_seed(0)
    values = [torch.randn(2, generator=drawn) for _ in range(count)]
    return [[{"x": x * math.nan if i == bad else x, "file_name": f"{i}.jpg"}] for i, x in enumerate(values)]


def build_step(reads_late, data, **options):
    model = Line()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    step = TrainingStep(model, data, optimizer, average=build_average(model, 0.9), **options)
    step.reads_late = reads_late
    return step


def run(step, iterations):
    """Runs so many steps and settles the last; returns every metric, by name and iteration."""
    with EventStorage() as storage:
        for step.iter in range(iterations):
            step.run_step()
        step.settle()
    histories = {name: {i: v for v, i in history.values()} for name, history in storage.histories().items()}
    return {name: history for name, history in histories.items() if "time" not in name}


def state(step):
    return [*step.model.state_dict().values(), *step.average.state_dict().values(), *flatten(step.optimizer)]


def flatten(optimizer):
    return [value for entries in optimizer.state.values() for value in entries.values()]


def test_late_reading_changes_nothing():
    late, at_once = build_step(True, batches(5)), build_step(False, batches(5))
    assert run(late, 5) == run(at_once, 5)
    for ours, theirs in zip(state(late), state(at_once), strict=True):
        assert torch.equal(ours, theirs)


def test_late_reading_reads_one_step_behind():
    step = build_step(True, batches(3))
    with EventStorage() as storage:
        for step.iter in range(3):
            step.run_step()
            assert ("total_loss" in storage.latest()) == (step.iter > 0)
        assert storage.latest()["total_loss"][1] == 1
        step.settle()
        assert storage.latest()["total_loss"][1] == 2


def test_a_bad_step_that_is_read_late_changes_no_weight():
    """The optimizer itself skips its update, and the next step stops before its own."""
    good, bad = build_step(True, batches(2)), build_step(True, batches(4, bad=2))
    run(good, 2)
    with EventStorage(), pytest.raises(TrainingError) as caught:
        for bad.iter in range(4):
            bad.run_step()
    assert bad.iter == 3
    message = str(caught.value)
    assert "iteration 2, learning rate 0.1: square nan, level nan; images 2.jpg." in message
    assert torch.equal(bad.model.weight, good.model.weight)
    for ours, theirs in zip(flatten(bad.optimizer), flatten(good.optimizer), strict=True):
        assert torch.equal(ours, theirs)


class Constant(nn.Module):
    """A loss that isn't finite, with gradients that are."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, batch):
        return {"loss": self.weight.sum() + math.inf}


def test_no_update_from_finite_gradients_of_a_loss_that_is_not():
    model = Constant()
    step = TrainingStep(model, batches(2), torch.optim.AdamW(model.parameters(), lr=0.1, fused=True))
    step.reads_late = True
    with EventStorage(), pytest.raises(TrainingError, match="iteration 0, .*: loss inf; images 0.jpg"):
        for step.iter in range(2):
            step.run_step()
    assert torch.equal(model.weight, torch.ones(2))


def test_numbers_come_back_as_they_were_given():
    shared, losses = SharedNumbers(CPU), {"a": torch.tensor(0.25), "b": torch.tensor(3.0)}
    numbers = shared.gather(losses, 0.5, True)
    outcome = Outcome(7, shared.names, numbers, losses, torch.tensor(1.5))
    outcome.read()
    assert outcome.losses == outcome.own_losses == {"a": 0.25, "b": 3.0}
    assert (outcome.iteration, outcome.norm, outcome.data_time, outcome.ends) == (7, 1.5, 0.5, True)
    assert outcome.losses_are_finite


def test_the_numbers_of_a_gpu_are_awaited_on_its_own_stream(monkeypatch):
    """Also where another GPU is the current one, as with MODEL.DEVICE cuda:1."""
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(record_event=lambda: device))
    with FakeTensorMode():
        shared, norm = (torch.zeros(shape, device="cuda:1") for shape in ((1, 4), ()))
        outcome = Outcome(0, ["a"], shared, {"a": norm}, norm)
    assert outcome.numbers.device == CPU and outcome.ready == torch.device("cuda:1")


@pytest.mark.parametrize("missing_in, expected", [(0, 3.0), (1, 1.0)])
def test_a_loss_that_a_process_lacks_is_the_mean_over_the_others(monkeypatch, missing_in, expected):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    rows = []
    for rank, value in enumerate((1.0, 3.0)):
        shared = SharedNumbers(CPU)
        shared.names = ["always", "now and then"]
        monkeypatch.setattr("torch.distributed.all_gather", lambda into, row: rows.append(row))
        losses = {"always": torch.tensor(value)}
        shared.gather(losses if rank == missing_in else losses | {"now and then": torch.tensor(value)}, rank, False)
    outcome = Outcome(0, shared.names, torch.stack(rows), losses, torch.tensor(1.0))
    outcome.read()
    assert outcome.losses == {"always": 2.0, "now and then": expected}
    assert (outcome.data_time, outcome.ends) == (1.0, False)


def test_processes_share_one_tensor_a_step_and_stop_together(run_two):
    """One of them gives up in the forward pass, where the other goes on to the backward pass."""
    first, second = run_two("two_diverging_processes.py")
    assert first == second
    assert "iteration 4, learning rate 0.5: predictions nan; images 1.jpg." in first["error"]
    assert first["ends"] == [False, False, True, True]  # process 1 asks in the third step
    assert first["object collectives"] == [1, 0, 0, 0]
    assert first["weight"] == first["last good weight"] != 0


@pytest.mark.parametrize("reads_late", [True, False])
def test_nothing_in_a_step_of_pretraining_makes_the_host_wait(reads_late):
    """But the outcome's own reading, of a tensor that has been copied to the host."""
    model = build_model(autoencoder_cfg()).train()
    batch = {"images": torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8), "file_names": ["a.jpg"] * 4}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    step = TrainingStep(model, [batch] * 3, optimizer, average=build_average(model, 0.9))
    step.reads_late = reads_late
    with EventStorage():
        step.iter = 0
        step.run_step()
        step.iter = 1
        found = list_waits(step.run_step)
    assert not found.ours and not found.theirs, found
