"""One update: accumulated gradients, mixed precision, and no update from bad losses."""

import math
import resource

import pytest
import torch
from detectron2.utils.events import EventStorage
from reference.small import autoencoder_cfg
from torch import nn

from convmae_det.data.stream import build_stream_loader
from convmae_det.engine.step import TrainingStep
from convmae_det.errors import TrainingError


class Regression(nn.Module):
    """Two losses, each a mean over images."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))
        self.seen_dtype = None

    def forward(self, batch):
        output = self.layers(torch.stack([image["x"] for image in batch]))
        self.seen_dtype = output.dtype
        return {"square": output.float().square().mean(), "level": (output.float() - 1).abs().mean()}


def images(count, bad=()):
    return [
        {"x": torch.full((4,), math.nan) if i in bad else torch.randn(4), "file_name": f"{i}.jpg"} for i in range(count)
    ]


def one_step(model, batches, optimizer=None, iteration=0, **options):
    """Runs one step; returns it and what it logged."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    step = TrainingStep(model, batches, optimizer, accumulation_steps=len(batches), **options)
    step.iter = iteration
    with EventStorage(iteration) as storage:
        step.run_step()
    return step, {name: value for name, (value, _) in storage.latest().items()}


def twins():
    first, second = Regression(), Regression()
    second.load_state_dict(first.state_dict())
    return first, second


def test_accumulating_equals_the_whole_batch():
    whole, parts = twins()
    data = images(6)
    _, whole_log = one_step(whole, [data])
    _, parts_log = one_step(parts, [data[:2], data[2:4], data[4:]])
    for ours, theirs in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
        torch.testing.assert_close(ours, theirs)
    for name in ("total_loss", "square", "level", "grad_norm"):
        assert parts_log[name] == pytest.approx(whole_log[name], rel=1e-5)


def read_vector(item):
    return {"x": torch.full((4,), float(item)), "file_name": f"{item}.jpg"}


@pytest.fixture
def few_open_files():
    """No process may have more than 200 files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_step_of_more_images_than_files_may_be_open(few_open_files):
    """Each image from a worker is an open file, unless its reader stacks them."""
    cfg = autoencoder_cfg("SOLVER.IMS_PER_BATCH", 480, "SOLVER.ACCUMULATION_STEPS", 15, "DATALOADER.NUM_WORKERS", 2)
    model, _ = twins()
    step = TrainingStep(
        model,
        build_stream_loader(cfg, range(480), read_vector),
        torch.optim.SGD(model.parameters(), lr=0.1),
        accumulation_steps=15,
    )
    with EventStorage():
        for step.iter in range(2):
            step.run_step()


def test_gradients_do_not_pile_up_over_steps():
    model, _ = twins()
    data = images(2)
    step, _ = one_step(model, [data, data], torch.optim.SGD(model.parameters(), lr=0.0))
    first = [p.grad.clone() for p in model.parameters()]
    step.reset_data_loader(lambda: [data, data])
    with EventStorage():
        step.run_step()
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), first, strict=True))


def test_mixed_precision_on_the_cpu():
    model = Regression()
    before = [p.detach().clone() for p in model.parameters()]
    _, log = one_step(model, [images(3)], autocast_dtype=torch.bfloat16)
    assert model.seen_dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert math.isfinite(log["total_loss"])


@pytest.mark.parametrize("bad_part", [0, 1])
def test_a_loss_that_is_not_finite_stops_before_the_update(bad_part):
    model = Regression()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.25)
    before = [p.detach().clone() for p in model.parameters()]
    data = images(4, bad={2 * bad_part + 1})
    with pytest.raises(TrainingError) as caught:
        one_step(model, [data[:2], data[2:]], optimizer, iteration=17)
    message = str(caught.value)
    for part in ("iteration 17", "learning rate 0.25", "square nan", "level nan", *(f"{i}.jpg" for i in range(4))):
        assert part in message
    assert "\n" not in message
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert not optimizer.state


class Diverged(Regression):
    """Finds out by itself, as Detectron2's proposal generator does."""

    def forward(self, batch):
        losses = super().forward(batch)
        if not losses["square"].isfinite():
            raise FloatingPointError("Predicted boxes or scores contain Inf or NaN.")
        return losses


@pytest.mark.parametrize("bad_part", [0, 1])
def test_a_model_that_gives_up_stops_before_the_update(bad_part):
    model = Diverged()
    before = [p.detach().clone() for p in model.parameters()]
    data = images(4, bad={2 * bad_part})
    with pytest.raises(TrainingError, match="predictions nan.*; images 0.jpg, 1.jpg, 2.jpg, 3.jpg"):
        one_step(model, [data[:2], data[2:]])
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


class RootAtZero(nn.Module):
    """A finite loss whose gradient isn't."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return {"root": self.weight.sqrt().sum()}


def test_a_gradient_that_is_not_finite_stops_before_the_update():
    model = RootAtZero()
    with pytest.raises(TrainingError, match="gradient norm inf; images 0.jpg"):
        one_step(model, [images(1)])
    assert model.weight.item() == 0


class Scaled(torch.amp.GradScaler):
    """Loss scaling as on a GPU, for which the CPU has no float16."""

    def __init__(self):
        super().__init__("cpu", init_scale=2.0**10)


def scaled_step(model, clip=None, loss_scale=1.0):
    step = TrainingStep(model, [images(4)], torch.optim.SGD(model.parameters(), lr=0.1), clip_gradients=clip)
    step.scaler = Scaled()
    with EventStorage():
        step.run_step()
    return step


def test_clipping_sees_gradients_without_the_loss_scale():
    whole, scaled = twins()
    norms = []

    def clip(parameters):
        norms.append(torch.stack([p.grad.norm() for p in parameters]).norm().item())

    torch.manual_seed(1)
    one_step(whole, [images(4)], clip_gradients=clip)
    torch.manual_seed(1)
    step = scaled_step(scaled, clip)
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    for ours, theirs in zip(whole.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert step.state_dict()["scaler"]["scale"] == 2.0**10


def test_loss_scaling_skips_an_update_that_overflows():
    model = RootAtZero()
    step = scaled_step(model)
    assert model.weight.item() == 0
    assert step.scaler.get_scale() == 2.0**9


class NotANumber(RootAtZero):
    def forward(self, batch):
        return {"root": self.weight.square().sqrt().sum()}


class Gradient(nn.Module):
    """A loss of 0 whose gradient is `value`, which has passed through float16."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.value = value

    def forward(self, batch):
        return {"loss": self.weight.half().float().sum() * self.value}


def scaled_run(model, iterations, state=None):
    """So many steps of a run, resumed from `state`."""
    step = TrainingStep(model, [images(1)] * iterations, torch.optim.SGD(model.parameters(), lr=0.5))
    step.scaler = Scaled()
    if state is not None:
        step.load_state_dict(state)
    with EventStorage():
        for step.iter in range(iterations):
            step.run_step()
    return step


@pytest.mark.parametrize("model", [RootAtZero(), NotANumber()], ids=["infinite", "NaN"])
def test_gradients_that_no_loss_scale_makes_finite_stop_the_run(model):
    skipping = scaled_run(model, 10)  # 2¹⁰ … 2
    assert skipping.scaler.get_scale() == 1
    with pytest.raises(TrainingError) as caught:
        scaled_run(model, 1, skipping.state_dict())  # the count of a resumed run goes on
    message = str(caught.value)
    for part in ("iteration 0, learning rate 0.5", "gradient norm at loss scale 1 ", "images 0.jpg", "--resume"):
        assert part in message
    assert "\n" not in message
    assert model.weight.item() == 0


def test_two_processes_skip_and_stop_together(run_two):
    """Where the gradient of one of them alone is NaN."""
    results = run_two("two_scaled_processes.py")
    assert results[0] == results[1]
    assert results[0]["scales"] == [4, 2, 1] and results[0]["weight"] == 0
    assert "iteration 3" in results[0]["error"] and "nan; images 0.jpg; " in results[0]["error"]
    assert results[0]["error"].count("gradient norm at loss scale 1 nan; images 1.jpg") == 1


def test_gradients_that_overflow_at_large_loss_scales_only_do_not():
    model = Gradient(1000.0)
    step = scaled_run(model, 8)
    assert step.scaler.get_scale() == 2**6  # the largest power of two with 1000 · scale ≤ 65504, float16's largest
    assert model.weight.item() == -0.5 * 1000 * 4  # and four updates were skipped


def test_the_state_holds_seed_and_loss_scale():
    model = Regression()
    step = scaled_step(model)
    step.seed = 5
    step.scaler.update(2.0**4)
    state = step.state_dict()
    other = TrainingStep(model, None, torch.optim.SGD(model.parameters(), lr=0.1), seed=1)
    other.scaler = Scaled()
    other.load_state_dict(state)
    assert (other.seed, other.scaler.get_scale()) == (5, 2.0**4)
    unscaled = TrainingStep(model, None, torch.optim.SGD(model.parameters(), lr=0.1))
    unscaled.load_state_dict(state)  # a run may go on in another precision
    other.load_state_dict(unscaled.state_dict())
    assert other.scaler.get_scale() == 2.0**4


@pytest.mark.parametrize("then", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("first", [None, torch.bfloat16, torch.float16])
def test_a_run_goes_on_in_another_precision(first, then):
    """Of a GPU's float16 the loss scale is taken on if it is scaled again, else it starts as in a new run."""
    model, data = Regression(), [images(2)]
    before, _ = one_step(model, data, autocast_dtype=first)
    if first == torch.float16:
        before.scaler.update(2.0**4)
    after = TrainingStep(model, data, torch.optim.SGD(model.parameters(), lr=0.1), autocast_dtype=then)
    new = after.scaler.get_scale()
    after.load_state_dict(before.state_dict())
    assert after.scaler.get_scale() == (2.0**4 if first == then == torch.float16 else new)
    with EventStorage(1):
        after.run_step()
    assert all(p.isfinite().all() for p in model.parameters())


class Draws(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.drawn = []

    def forward(self, batch):
        self.drawn.append(torch.rand(()).item())
        return {"loss": self.weight.sum()}


def draws(seed, iteration, history=0):
    model = Draws()
    torch.manual_seed(history)
    one_step(model, [images(1), images(1)], seed=seed, iteration=iteration)
    return model.drawn


def test_draws_depend_on_seed_and_iteration_alone():
    assert draws(1, 5) == draws(1, 5, history=9)
    every = [*draws(1, 5), *draws(1, 6), *draws(2, 5)]
    assert len(set(every)) == len(every)


def test_a_masked_autoencoder_takes_a_step():
    from detectron2.modeling import build_model

    model = build_model(autoencoder_cfg()).train()
    batch = [{"image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8), "file_name": "a"} for _ in range(2)]
    _, log = one_step(model, [batch], autocast_dtype=torch.bfloat16)
    assert math.isfinite(log["total_loss"])
