"""A file is written whole or not at all."""

import multiprocessing
import os
import resource
import signal
import stat

import pytest
import torch
from reference.faults import limit

from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.errors import InputError
from convmae_det.files import atomic_write, remove_temporary_files

OLD = {"model": {"a": torch.arange(3.0)}}


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
def test_what_is_written_is_read(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    table = torch.arange(24.0).view(4, 6)
    write_checkpoint({"model": {"a": table, "part": table[:, 1:3].T}, "epoch": 3}, path)
    content = read_checkpoint(path)
    assert torch.equal(content["model"]["part"], table[:, 1:3].T) and int(content["epoch"]) == 3
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_full_disk_leaves_the_previous_file(tmp_path, ending, share):
    path = tmp_path / f"weights.{ending}"
    write_checkpoint(OLD, path)
    with limit(resource.RLIMIT_FSIZE, int(4_000_000 * share)), pytest.raises(InputError) as refusal:
        write_checkpoint({"model": {"a": torch.zeros(1_000_000)}}, path)
    assert str(refusal.value).startswith(f"{path} can't be written (File too large)")
    assert torch.equal(read_checkpoint(path)["model"]["a"], OLD["model"]["a"])
    assert list(tmp_path.iterdir()) == [path]


def die_in_the_middle(path):
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_in_the_middle_leaves_the_previous_file(tmp_path):
    path = tmp_path / "weights.pth"
    write_checkpoint(OLD, path)
    process = multiprocessing.get_context("fork").Process(target=die_in_the_middle, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert torch.equal(read_checkpoint(path)["model"]["a"], OLD["model"]["a"])
    assert len(list(tmp_path.iterdir())) == 2  # the half-written file has another name
    users = {".own.tmp", ".weights.pth.tmp", ".weights.pth.old.tmp", ".notes.1234.tmp"}
    for name in users:
        (tmp_path / name).touch()
    remove_temporary_files(tmp_path, ["weight?.pth"])
    assert {file.name for file in tmp_path.iterdir()} == {"weights.pth", *users}


def test_any_exception_leaves_the_previous_file(tmp_path):
    path = tmp_path / "last_checkpoint"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"


def test_places_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "no" / "weights.pth", tmp_path / "file" / "weights.pth"):
        with pytest.raises(InputError, match=f"^{path} can't be written"):
            write_checkpoint(OLD, path)
    for name in ("weights", "weights.pkl", "weights.txt"):
        with pytest.raises(InputError, match="use .pth, .pt or .safetensors"):
            write_checkpoint(OLD, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
