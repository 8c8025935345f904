"""Checkpoints of a run are whole, safe to read and loaded completely."""

import os

import pytest
import torch
from torch import nn

from convmae_det.checkpoint.checkpointer import Checkpointer
from convmae_det.errors import InputError


class Counter:
    def __init__(self, count=0):
        self.count = count

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_a_checkpoint_comes_back(tmp_path):
    model, counter = nn.Linear(2, 3), Counter(7)
    Checkpointer(model, str(tmp_path), counter=counter).save("model_1", iteration=4)
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_1.pth"]
    other, fresh = nn.Linear(2, 3), Counter()
    checkpointer = Checkpointer(other, str(tmp_path), counter=fresh)
    assert checkpointer.has_checkpoint()
    rest = checkpointer.load(checkpointer.get_checkpoint_file())
    assert (rest["iteration"], fresh.count) == (4, 7)
    assert torch.equal(other.weight, model.weight)


def test_only_the_main_process_writes(tmp_path):
    Checkpointer(nn.Linear(2, 3), str(tmp_path), save_to_disk=False).save("model_1")
    assert not os.listdir(tmp_path)


def test_a_save_that_fails_leaves_the_last_checkpoint_alone(tmp_path, monkeypatch):
    model = nn.Linear(2, 3)
    checkpointer = Checkpointer(model, str(tmp_path))
    checkpointer.save("model_1")
    before = (tmp_path / "model_1.pth").read_bytes()

    def disk_full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    for name in ("model_1", "model_2"):
        with pytest.raises(InputError, match="No space left"):
            checkpointer.save(name)
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_1.pth"]
    assert (tmp_path / "model_1.pth").read_bytes() == before
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_1.pth")


def test_another_model_is_named_parameter_by_parameter(tmp_path):
    Checkpointer(nn.Linear(2, 3), str(tmp_path)).save("model_1")
    path = str(tmp_path / "model_1.pth")
    with pytest.raises(InputError, match=r"model_1\.pth .*weight: is 3×2, not 3×5"):
        Checkpointer(nn.Linear(5, 3)).load(path)
    with pytest.raises(InputError, match=r"0\.bias: is missing.*1\.weight: is missing"):
        Checkpointer(nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3))).load(path)


def test_weights_without_a_use_are_no_error(tmp_path):
    Checkpointer(nn.Linear(2, 3), str(tmp_path)).save("model_1")
    Checkpointer(nn.Linear(2, 3, bias=False)).load(str(tmp_path / "model_1.pth"))


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "code"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, damage):
    path = tmp_path / "model_1.pth"
    Checkpointer(nn.Linear(2, 3), str(tmp_path)).save("model_1")
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("not weights")
    else:
        torch.save({"model": Counter()}, path)
    with pytest.raises(InputError, match="model_1.pth"):
        Checkpointer(nn.Linear(2, 3)).load(str(path))
