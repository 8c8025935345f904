"""Checkpoints of a run are whole, safe to read and loaded completely."""

import os
import shutil

import pytest
import torch
from torch import nn

from convmae_det.checkpoint.checkpointer import Checkpointer
from convmae_det.checkpoint.record import RECORD, TAIL, is_recorded, record_file
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
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_1.pth", RECORD]
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
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_1.pth", RECORD]
    assert (tmp_path / "model_1.pth").read_bytes() == before and is_recorded(tmp_path / "model_1.pth")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_1.pth")


def test_another_model_is_named_parameter_by_parameter(tmp_path):
    Checkpointer(nn.Linear(2, 3), str(tmp_path)).save("model_1")
    path = str(tmp_path / "model_1.pth")
    with pytest.raises(InputError, match=r"model_1\.pth .*weight: 3×2 in the file, 3×5 in the model"):
        Checkpointer(nn.Linear(5, 3)).load(path)
    with pytest.raises(InputError, match=r"0\.bias: not in the file.*1\.weight: not in the file"):
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


def names(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def test_the_newest_are_kept_over_several_runs_of_the_same_folder(tmp_path):
    for run in range(3):
        checkpointer = Checkpointer(nn.Linear(2, 3), str(tmp_path), max_to_keep=2)
        for step in range(2):
            checkpointer.save(f"model_{2 * run + step:07d}")
    checkpointer.save("model_final")
    (tmp_path / "model_best.pth").touch()
    checkpointer.save("model_0000006")
    assert names(tmp_path) == ["model_0000005.pth", "model_0000006.pth", "model_best.pth", "model_final.pth"]


def test_the_last_checkpoint_is_never_deleted(tmp_path):
    """Not even where clocks or users made it look old."""
    checkpointer = Checkpointer(nn.Linear(2, 3), str(tmp_path))
    for step in range(3):
        checkpointer.save(f"model_{step:07d}")
        os.utime(tmp_path / f"model_{step:07d}.pth", (10**10, 10**10 + step))
    Checkpointer(nn.Linear(2, 3), str(tmp_path), max_to_keep=1).save("model_0000000")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000000.pth")
    assert names(tmp_path) == ["model_0000000.pth", "model_0000002.pth"]


@pytest.mark.parametrize("how", ["other name", "other content", "from another run"])
def test_a_users_checkpoint_is_never_deleted(tmp_path, how):
    """It may be called like a run's, and be made by a run; or take the place of one of this run's."""
    checkpointer = Checkpointer(nn.Linear(2, 3), str(tmp_path), max_to_keep=1)
    checkpointer.save("model_0000001")
    (tmp_path / "other").mkdir()
    if how == "other name":
        own = (tmp_path / "model_0000001.pth").rename(tmp_path / "model_0000000.pth")
    elif how == "other content":
        own = tmp_path / "model_0000001.pth"
        Checkpointer(nn.Linear(2, 3), str(tmp_path / "other")).save("model_0000001")
        (tmp_path / "other/model_0000001.pth").replace(own)
    else:
        own = tmp_path / "model_0000000.pth"
        Checkpointer(nn.Linear(2, 3), str(tmp_path / "other")).save("model_0000000")
        (tmp_path / "other/model_0000000.pth").replace(own)
    content = own.read_bytes()
    for step in range(2, 5):
        checkpointer.save(f"model_{step:07d}")
    assert names(tmp_path) == [own.name, "model_0000004.pth"]
    assert own.read_bytes() == content


def test_a_copied_folder_is_still_the_runs(tmp_path):
    (tmp_path / "a").mkdir()
    Checkpointer(nn.Linear(2, 3), str(tmp_path / "a")).save("model_0000001")
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copy)  # without times
    Checkpointer(nn.Linear(2, 3), str(tmp_path / "b"), max_to_keep=1).save("model_0000002")
    assert names(tmp_path / "b") == ["model_0000002.pth"]


@pytest.mark.parametrize("place", [0, TAIL // 2, -1])
def test_the_record_tells_checkpoints_of_one_size_apart(tmp_path, place):
    """By the checksums at the end, wherever the difference lies; the file is larger than what is read of it."""
    weights = torch.zeros(TAIL)
    path = tmp_path / "a.pth"
    torch.save({"model": {"a": weights}}, path)
    record_file(path, path)
    assert is_recorded(path)
    size = path.stat().st_size
    weights[place] = 1
    torch.save({"model": {"a": weights}}, path)
    assert path.stat().st_size == size and not is_recorded(path)
