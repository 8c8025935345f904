"""Files made to do harm are refused before they do any."""

import io
import os
import pickle
import zipfile

import pytest
import torch

from convmae_det.checkpoint.checkpointer import Checkpointer
from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.checkpoint.writing import write_checkpoint
from convmae_det.errors import InputError
from convmae_det.files import atomic_write


class Malice:
    """Its pickle creates a folder when it is opened in the ordinary way."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def written(path, malice, kind):
    content = {"model": {"a": torch.ones(3)}, "more": malice}
    if kind == "plain":
        path.write_bytes(pickle.dumps(content))
    elif kind == "legacy magic before a plain pickle":
        buffer = io.BytesIO()
        torch.save({}, buffer, _use_new_zipfile_serialization=False)
        path.write_bytes(buffer.getvalue()[:15] + pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain", "legacy magic before a plain pickle"])
@pytest.mark.parametrize("name", ["model.pth", "model.pkl", "model.pyth", "model.safetensors"])
def test_pickles_that_run_code(tmp_path, kind, name):
    path, proof = tmp_path / name, tmp_path / "proof"
    written(path, Malice(proof), kind)
    for load in (read_checkpoint, Checkpointer(torch.nn.Linear(1, 1), str(tmp_path)).load):
        with pytest.raises(InputError, match=str(path)):
            load(str(path))
    assert not proof.exists()


def test_zip_bomb(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps({}))
        archive.writestr("bomb/data/0", bytes(10**7))
    assert path.stat().st_size < 10**6
    with pytest.raises(InputError, match=r"bomb.pth has [\d,]+ bytes, which would unpack to 10,0"):
        read_checkpoint(path)


def test_archive_whose_directory_promises_terabytes(tmp_path):
    """Of entries that lie one upon the other, which together are larger than the file."""
    path = tmp_path / "bomb.pth"
    torch.save({"model": {"a": torch.ones(1000)}}, path)
    with zipfile.ZipFile(path, "a") as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith("data/0"))
        for number in range(1, 9):
            twin = zipfile.ZipInfo(entry.filename[:-1] + str(number))
            twin.header_offset, twin.CRC, twin.file_size, twin.compress_size = (
                entry.header_offset,
                entry.CRC,
                2**40,
                2**40,
            )
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(InputError, match="which would unpack to 8,796,0"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_four_bytes_that_stand_for_terabytes(tmp_path, zipped):
    path = tmp_path / "large.pth"
    torch.save({"model": {"a": torch.ones(()).expand(10**6, 10**6)}}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="holds 'model.a', larger than the file"):
        read_checkpoint(path)


def test_no_link_is_followed_when_writing(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    path = tmp_path / "weights.pth"
    path.symlink_to(precious)
    (tmp_path / f".weights.pth.{os.getpid()}.tmp").symlink_to(precious)
    write_checkpoint({"model": {"a": torch.ones(3)}}, path)
    assert precious.read_text() == "precious"
    assert not path.is_symlink() and torch.equal(read_checkpoint(path)["model"]["a"], torch.ones(3))
    assert sorted(os.listdir(tmp_path)) == ["precious", "weights.pth"]


def test_a_link_to_nowhere_is_replaced(tmp_path):
    path = tmp_path / "weights.pth"
    path.symlink_to(tmp_path / "elsewhere" / "file")
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and not path.is_symlink()


def test_numbers_that_are_not_finite_are_not_resumed(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.state[model.bias]["exp_avg"][0] = torch.nan
    checkpointer = Checkpointer(model, str(tmp_path), optimizer=optimizer)
    checkpointer.save("model_0000001")
    with pytest.raises(InputError, match="model_0000001.pth holds numbers that are not finite, in 'optimizer.state"):
        checkpointer.load(str(tmp_path / "model_0000001.pth"))


@pytest.mark.parametrize("folder", ["a?b", "a#b", "a%20b", "a;b"])
def test_folders_that_look_like_urls(tmp_path, folder):
    (tmp_path / folder).mkdir()
    checkpointer = Checkpointer(torch.nn.Linear(2, 2), str(tmp_path / folder))
    checkpointer.save("model_final", iteration=3)
    assert checkpointer.load(checkpointer.get_checkpoint_file()) == {"iteration": 3}
