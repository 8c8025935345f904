"""Operations are those of formulas, stage by stage, traffic that of tensors which no cache holds."""

import argparse
import json

import pytest
import torch
from reference import operations
from torch import nn

from benchmarks import count, steps
from benchmarks.traffic import Count
from convmae_det.config.building import build_window_arguments
from convmae_det.config.presets import PRESETS
from convmae_det.modeling.window_schedule import build_attention_windows

SMALL = argparse.Namespace(
    task="count", arch="tiny", batch=1, size=64, dtype="float32", device="cpu", threads=1, compile=False, cache=0.0
)


@pytest.mark.parametrize("form", steps.FORMS)
@pytest.mark.parametrize("kind", ["backbone inference", steps.PRETRAINING])
def test_all_operations_are_counted_at_their_stage(form, kind):
    grid, shape = (4, 4), PRESETS["tiny"]
    if kind == steps.PRETRAINING:
        expected = operations.autoencoder(grid, published=form == steps.PUBLISHED, **shape)
    else:
        schedule = build_window_arguments(steps.configuration(kind, 64, "tiny"))
        windows = build_attention_windows(shape["depths"][2], **schedule)
        expected = operations.encoder(grid=grid, windows=windows, **shape)
    stages = count.count(kind, form, 64, SMALL)
    assert {stage: 1e9 * figures["gflop"] for stage, figures in stages.items() if figures["gflop"]} == (
        pytest.approx(dict(expected))
    )


def test_traffic_is_what_is_read_and_written():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    counter, tokens = Count(cache=0), torch.zeros(10, 4)
    with torch.no_grad(), counter:
        model(tokens).view(-1)  # a view moves nothing
    assert counter.traffic.total() == 4 * ((40 + 24 + 6 + 60) + (60 + 60))
    assert counter.operations.total() == 2 * 10 * 4 * 6


def test_what_a_cache_holds_is_no_traffic():
    model, tensors = nn.ReLU(), (torch.zeros(25), torch.zeros(26), torch.zeros(52)[:10])
    with torch.no_grad(), Count(cache=100) as counter:
        [model(tensor) for tensor in tensors]
    assert counter.traffic.total() == 4 * (26 + 26 + 10)  # the part of a large tensor comes from memory


def test_the_same_memory_is_read_once():
    with torch.no_grad(), Count(cache=0) as counter:
        torch.zeros(5).expand(100, 5).sum()
    assert counter.traffic.total() == 4 * (5 + 5 + 1)  # zeros are written, too


def test_a_run_gives_its_figures(capsys):
    result = json.loads(json.dumps(count.measure(SMALL)))
    count.report(result)
    output = capsys.readouterr().out
    assert output.count("together") == 4 and output.startswith(f"{result['device']}, torch {torch.__version__}\n")
    assert "one image of 224×224 pixels" in output
