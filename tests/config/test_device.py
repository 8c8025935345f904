"""MODEL.DEVICE is a device that there is, or a sentence."""

import pytest
import torch

from convmae_det.config.device import find_available_device
from convmae_det.errors import InputError


@pytest.fixture
def gpus(monkeypatch):
    def set_gpus(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    monkeypatch.delenv("RANK", raising=False)
    return set_gpus


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0", "cuda:3"])
def test_without_a_gpu_it_is_the_cpu_and_said_so_once(gpus, monkeypatch, capsys, device):
    gpus(0)
    assert find_available_device(device) == "cpu"
    assert "No GPU" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert find_available_device(device) == "cpu"
    assert not capsys.readouterr().err


@pytest.mark.parametrize("device, found", [("auto", "cuda"), ("cuda", "cuda"), ("cuda:1", "cuda:1"), ("cpu", "cpu")])
def test_of_two_gpus(gpus, capsys, device, found):
    gpus(2)
    assert find_available_device(device) == found
    assert not capsys.readouterr().err


def test_a_gpu_beyond_the_last(gpus):
    gpus(2)
    with pytest.raises(InputError, match="^MODEL.DEVICE is 'cuda:2'; it must name one of the 2 GPUs"):
        find_available_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:", "cuda:x", "cpu:0", "mps"])
def test_other_words(gpus, device):
    gpus(1)
    with pytest.raises(InputError, match=f"^MODEL.DEVICE is '{device}'; it must be auto, cuda"):
        find_available_device(device)
