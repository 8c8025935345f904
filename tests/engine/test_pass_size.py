"""The images of a pass are found by few passes, fit, and stay the same in a resumed run and in all processes."""

import logging
import math
from contextlib import nullcontext

import pytest
import torch
import yaml
from engine.test_trainer import make_cfg, shapes, train, weights  # noqa: F401
from hypothesis import example, given
from hypothesis import strategies as st
from reference.small import autoencoder_cfg, classifier_cfg, detector_cfg

from convmae_det.config.keys import AUTO
from convmae_det.engine import pass_size
from convmae_det.engine.pass_size import PassSize, find_most_images, find_pass_size, make_trial_batch, run_pass
from convmae_det.errors import InputError
from convmae_det.inference.model import build_model

GIB = 2**30
LINES = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 300)), min_size=1, max_size=3)


class Memory:
    """A GPU whose passes need the largest of some straight lines; it has `size` bytes."""

    def __init__(self, size, lines):
        self.size, self.lines, self.passes = size, lines, 0

    def peak(self, images):
        return max(fixed + each * images for fixed, each in self.lines)

    def __call__(self, images):
        self.passes += 1
        return self.peak(images) if self.peak(images) <= self.size else None


@given(size=st.integers(100, 100_000), lines=LINES, most=st.integers(1, 4096))
@example(size=1000, lines=[(0, 1), (-900, 40)], most=4096)
def test_what_is_found_fits(size, lines, most):
    """It may take the margin only where half a first trial already does."""
    memory, usable = Memory(size, lines), math.floor(size * 0.9)
    images = find_most_images(memory, usable, most)
    if memory.peak(1) > size:
        assert images == 0
    else:
        assert 1 <= images <= most and memory.peak(images) <= size
        assert memory.peak(images) <= usable or memory.peak(pass_size.TRIAL_IMAGES // 2) > usable
    assert memory.passes <= 6 + math.log2(most)


@given(fixed=st.integers(0, 1000), each=st.integers(1, 300), room=st.integers(2, 5000), most=st.integers(1, 4096))
def test_where_memory_is_a_line_the_most_is_found(fixed, each, room, most):
    usable = fixed + each * room
    assert find_most_images(Memory(usable * 2, [(fixed, each)]), usable, most) == min(room, most)


def test_memory_that_runs_out_halves_the_number():
    """The third pass, too: what follows from two small ones is too much, by far."""
    assert find_most_images(Memory(1000, [(0, 100)]), 900, 4096) == 9
    memory = Memory(1000, [(400, 1), (0, 20)])
    images = find_most_images(memory, 900, 4096)
    assert 25 <= images <= 45 and memory.peak(images) <= 900


@pytest.fixture
def gpu(monkeypatch):
    """gpu(…): from now on the CPU passes for a GPU on which a pass takes 1 GiB and as much for each image."""

    def gpu(gib, other=lambda value: value):
        monkeypatch.setattr(pass_size, "is_gpu", lambda device: True)
        monkeypatch.setattr(pass_size, "describe_device", lambda device: f"a card of {gib}")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (gib * GIB, gib * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        memory = Memory(gib * GIB, [(GIB, GIB)])
        monkeypatch.setattr(pass_size, "measure_pass", lambda model, batch, autocast: memory(len(batch)))
        monkeypatch.setattr(pass_size.comm, "all_gather", lambda value: [value, other(value)])

    return gpu


def find(cfg):
    parameter = torch.nn.Parameter(torch.zeros(GIB // 16, device="meta"))  # 0.25 GiB: gradients and moments take 0.75
    return find_pass_size(cfg, torch.nn.Module(), torch.optim.AdamW([parameter]), nullcontext())


def test_the_number_is_said(gpu, caplog):
    gpu(40)
    with caplog.at_level(logging.INFO, "convmae_det"):
        found = find(autoencoder_cfg("SOLVER.IMS_PER_BATCH", 4096))
    assert found == PassSize(34, "a card of 40", 40 * GIB)  # 40 · 0.9 - 0.75 - 1
    assert caplog.messages == ["SOLVER.MAX_IMS_PER_PASS auto: 34 images fit the 40.0 GiB of a card of 40"]


def test_the_least_memory_of_all_processes_counts(gpu):
    gpu(40, other=lambda value: value and value // 4)  # of 35.25 GiB 8.8, and all passes as here
    assert find(autoencoder_cfg("SOLVER.IMS_PER_BATCH", 4096)).images == 7
    gpu(40, other=lambda value: None if value < GIB * 20 else value)  # no pass succeeds there
    with pytest.raises(InputError, match="not even one image fits the 40.0 GiB of a card of 40"):
        find(autoencoder_cfg("SOLVER.IMS_PER_BATCH", 4096))


def test_a_smaller_gpu_is_named_when_a_run_goes_on(gpu, caplog):
    gpu(20)
    with caplog.at_level(logging.INFO, "convmae_det"):
        pass_size.log_recorded(PassSize(34, "a card of 40", 40 * GIB), "cuda")
        pass_size.log_recorded(PassSize(16, "a card of 20", 20 * GIB), "cuda")
        pass_size.log_recorded(PassSize(64, "a CPU"), "cuda")
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO", "INFO"]
    assert "34 images fitted the 40.0 GiB of a card of 40; a card of 20 has 20.0 GiB" in caplog.text


NETWORKS = {
    "pretraining": autoencoder_cfg(),
    "recomputed activations": autoencoder_cfg("MODEL.CONVMAE.ACTIVATION_CHECKPOINT", True),
    "classifier": classifier_cfg(),
    "masks": detector_cfg("MODEL.ROI_HEADS.POSITIVE_FRACTION", 0.5),
    "bitmasks": detector_cfg("INPUT.MASK_FORMAT", "bitmask"),
    "keypoints": detector_cfg("MODEL.MASK_ON", False, "MODEL.KEYPOINT_ON", True),
    "RetinaNet": detector_cfg("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False),
    "panoptic": detector_cfg("MODEL.META_ARCHITECTURE", "PanopticFPN"),
    "norms that keep statistics": detector_cfg("MODEL.FPN.NORM", "BN"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_trial_leaves_the_network_as_it_was(name):
    cfg = NETWORKS[name]
    model = build_model(cfg).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch, side = make_trial_batch(cfg, 2), cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE
    assert [image["image"].shape for image in batch] == [(3, side, side)] * 2
    run_pass(model, batch, nullcontext())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_trial_has_as_many_objects_as_a_detector_trains_on():
    """What its mask head takes grows with them."""
    seen, cfg = [], NETWORKS["masks"]
    model = build_model(cfg).train()
    model.roi_heads.mask_head.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    run_pass(model, make_trial_batch(cfg, 2), nullcontext())
    assert seen == [2 * 16 // 2]


def test_a_resumed_run_keeps_its_passes(make_cfg, tmp_path, monkeypatch):  # noqa: F811
    options = ["SOLVER.ACCUMULATION_STEPS", 0, "SOLVER.MAX_IMS_PER_PASS", AUTO, "SOLVER.IMS_PER_BATCH", 4]
    monkeypatch.setattr(pass_size, "CPU_IMAGES", 2)
    whole, _ = train(make_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    first, _ = train(make_cfg(*options), stop_after=1)
    monkeypatch.setattr(pass_size, "CPU_IMAGES", 1)
    resumed, _ = train(make_cfg(*options), resume=True)
    assert [run.cfg.SOLVER.ACCUMULATION_STEPS for run in (whole, first, resumed)] == [2, 2, 2]
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())
    written = yaml.safe_load((tmp_path / "out/config.yaml").read_text())["SOLVER"]
    assert (written["ACCUMULATION_STEPS"], written["MAX_IMS_PER_PASS"]) == (0, AUTO)
