"""On a CPU, what is found fits, and no trial takes more than the memory that there is."""

import logging
import math
import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.small import autoencoder_cfg

from convmae_det.engine import host_pass_size
from convmae_det.engine.host_pass_size import Room, find_images, find_room, measure_growth
from convmae_det.engine.pass_size import KEY, find_pass_size
from convmae_det.errors import InputError
from convmae_det.inference.model import build_model
from convmae_det.memory import read_available

GIB, ROOT = 2**30, Path(__file__).parents[2]
LINES = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 300)), min_size=1, max_size=3)
known = pytest.mark.skipif(read_available() is None, reason="the system doesn't tell its memory")


@given(lines=LINES, whole=st.integers(100, 50_000), most=st.integers(1, 512))
def test_what_is_found_fits_and_so_did_all_trials(lines, whole, most):
    tried = []

    def peak(images):
        return max(fixed + each * images for fixed, each in lines)

    def measure(run, images, room, before):
        tried.append(images)
        return peak(images) if peak(images) <= room else None

    usable = math.floor(whole * 0.75)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_pass_size, "measure_growth", measure)
        images, _ = find_images(lambda images: None, Room(whole, usable, ""), most)
    assert tried[0] == 1 and max(tried) <= host_pass_size.TRIAL_IMAGES
    assert all(peak(number) <= usable for number in tried[1:])
    if peak(1) > whole:
        assert images == 0
    else:
        assert 1 <= images <= most and (images == 1 or peak(images) <= usable)
        enough = images == most or (images + 1) * max(peak(number) / number for number in tried[-1:]) > usable
        assert enough, "more would have been shown to fit"


@known
def test_a_pass_that_exceeds_the_room_is_stopped_and_other_errors_pass():
    assert measure_growth(lambda images: torch.ones(images * 2**27), 1, 2**28, 0) is None
    assert measure_growth(lambda images: torch.ones(images), 1, 2**28, 2**60) == 0
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measure_growth(lambda images: torch.ones(2, 3) @ torch.ones(2, 3), 1, 2**28, 0)


@known
def test_threads_have_started_before_memory_is_limited(python):
    """One that can't start ends the process without an exception."""
    code = """
import torch
from convmae_det.engine.host_pass_size import Room, find_images
torch.set_num_threads(4)
product = torch.ones(512, 512)
def run(images):
    (product @ product).relu()
    torch.ones(2**27)
print(find_images(run, Room(3_000_000, 3_000_000, "said"), 8))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout == "(0, 'said, and one of one image exceeds all that is left')\n", done.stderr


@known
def test_limits_of_the_process_count(monkeypatch):
    monkeypatch.setattr(host_pass_size, "read_available", lambda: 8 * GIB)
    monkeypatch.setattr(host_pass_size, "read_own_limit", lambda: 2 * GIB)
    assert find_room(GIB)[:2] == (GIB, GIB // 2)


def test_processes_of_a_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr(host_pass_size, "read_available", lambda: 8 * GIB)
    monkeypatch.setattr(host_pass_size.comm, "get_local_size", lambda: 2)
    room = find_room(GIB)
    assert room[:2] == (3 * GIB, 2 * GIB)
    assert "4.0 GiB of memory available for each of 2 processes, less a quarter for all else" in room.said
    monkeypatch.setattr(host_pass_size, "read_available", lambda: None)
    assert find_room(GIB) is None


@known
def test_the_rule_is_said_and_too_little_memory_refused(monkeypatch, caplog):
    cfg = autoencoder_cfg("SOLVER.IMS_PER_BATCH", 100)
    model = build_model(cfg).train()
    optimizer = torch.optim.AdamW(model.parameters())

    def find():
        with caplog.at_level(logging.INFO, "convmae_det"):
            return find_pass_size(cfg, model, optimizer, nullcontext()).images

    state = torch.get_rng_state()
    assert find() == 64  # small images, of which a CPU takes no more
    assert torch.equal(torch.get_rng_state(), state)
    assert (
        f"{KEY}: 64 images fit the memory (of the " in caplog.text and "GiB of memory available, less a" in caplog.text
    )
    monkeypatch.setattr(host_pass_size, "measure_growth", lambda run, images, room, before: images * GIB)
    monkeypatch.setattr(host_pass_size, "read_available", lambda: 8 * GIB)
    assert find() == 5  # of 6 GiB, less the optimizer's
    monkeypatch.setattr(host_pass_size, "measure_growth", lambda *args: None)
    with pytest.raises(InputError, match=r"not even one image fits the memory \(of the 8.0 GiB .* exceeds all"):
        find()
    monkeypatch.setattr(host_pass_size, "read_available", lambda: None)
    assert find() == 64
    assert "without a trial, since this system doesn't say what memory is available" in caplog.text
