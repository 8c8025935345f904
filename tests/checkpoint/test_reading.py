"""Nothing in a file is ever run, and each file that can't be read gets its sentence."""

import argparse
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import distributed
from torch.distributed._shard import sharded_tensor
from torch.distributed._shard.sharding_spec import ChunkShardingSpec
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from convmae_det.checkpoint.reading import read_checkpoint
from convmae_det.errors import InputError

CONTENT = {"model": {"a.weight": torch.arange(300.0).view(3, 100), "b": torch.tensor([1, 2])}, "epoch": 7}


class Malice:
    """Its pickle creates a file when it is opened in the ordinary way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def same(content):
    return all(torch.equal(content["model"][name], tensor) for name, tensor in CONTENT["model"].items())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "weights.pth"
    torch.save(CONTENT, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_torch_saved(tmp_path, zipped):
    path = tmp_path / "weights.any"
    torch.save(CONTENT | {"args": argparse.Namespace(lr=0.1)}, path, _use_new_zipfile_serialization=zipped)
    content = read_checkpoint(path)
    assert same(content) and content["epoch"] == 7 and content["args"].lr == 0.1


def test_reads_files_without_checksums(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(CONTENT, tmp_path / "weights.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_checkpoint(tmp_path / "weights.pth"))


def test_reads_safetensors_whatever_the_name(tmp_path):
    for name in ("weights.safetensors", "weights.pth"):
        save_file(CONTENT["model"], tmp_path / name, {"epoch": "7"})
        content = read_checkpoint(str(tmp_path / name))
        assert same(content) and content["epoch"] == "7"


def test_reads_urls(tmp_path, monkeypatch):
    torch.save(CONTENT, tmp_path / "weights.pth")
    asked = {"https://host/weights.pth": str(tmp_path / "weights.pth")}
    monkeypatch.setattr("detectron2.utils.file_io.PathManager.get_local_path", asked.__getitem__)
    assert same(read_checkpoint("https://host/weights.pth"))
    with pytest.raises(InputError, match="^https://host/other.pth can't be downloaded"):
        read_checkpoint("https://host/other.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside", "inside"])
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, zipped, place):
    proof, path = tmp_path / "proof", tmp_path / "weights.pth"
    model = {"model": CONTENT["model"] | {"c": Malice(proof)}} if place == "inside" else {"args": Malice(proof)}
    torch.save(CONTENT | model, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=f"^{path} asks to run .*nothing ran"):
        read_checkpoint(path)
    assert not proof.exists()
    torch.load(path, weights_only=False)
    assert proof.exists()  # the file is what it claims to be


def test_a_plain_pickle_is_not_opened(tmp_path):
    proof, path = tmp_path / "proof", tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": np.zeros(3)}, "__author__": Malice(proof)}))
    with pytest.raises(InputError, match=r"^.*model_final.pkl is a plain pickle.*Detectron2.*torch.save"):
        read_checkpoint(path)
    assert not proof.exists()


def test_only_namespaces_are_allowed_and_only_while_reading(tmp_path):
    before = set(map(repr, torch.serialization.get_safe_globals()))
    torch.save({"model": {}, "args": argparse.Namespace(a=1)}, tmp_path / "weights.pth")
    read_checkpoint(tmp_path / "weights.pth")
    assert set(map(repr, torch.serialization.get_safe_globals())) == before
    torch.save({"model": {}, "path": pathlib.PurePosixPath("a")}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="asks to run pathlib"):
        read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.parametrize("value", [np.float64(0.5), np.zeros(2)])
def test_numpy_is_named_with_the_cure(tmp_path, value):
    torch.save(CONTENT | {"best": value}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"NumPy values \(numpy.*float\(x\)"):
        read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"", "is empty"),
        (b"learning rate 0.1\nmomentum 0.9\n" * 50, "is a text file"),
        ("größere Gewichte ".encode() * 99, "is a text file"),
        (b"<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>", "is a web page"),
        (b"\n <html><body>Quota exceeded</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 343\n", "is a git-lfs pointer"),
        (b"\x80\x04\x95\x10", "is a plain pickle"),
        (b"\x00" * 4096, "is not a file of weights"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "is not a file of weights"),
        (b"PK\x03\x04" + b"\x00" * 100, "is cut off or damaged"),
    ],
)
def test_what_is_no_file_of_weights_is_named(tmp_path, content, complaint):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_checkpoint(path)
    assert str(refusal.value).startswith(f"{path} {complaint}") and "\n" not in str(refusal.value)


def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.pth", "w") as archive:
        archive.writestr("photo.jpg", b"jpeg")
    with pytest.raises(InputError, match="zip archive without weights"):
        read_checkpoint(tmp_path / "photos.pth")
    with zipfile.ZipFile(tmp_path / "program.pth", "w") as archive:
        archive.writestr("program/data.pkl", b"")
        archive.writestr("program/constants.pkl", b"")
    with pytest.raises(InputError, match="TorchScript"):
        read_checkpoint(tmp_path / "program.pth")


def test_a_tensor_marked_as_a_folder_is_damage(tmp_path, saved):
    """torch would give what happened to lie in memory for it."""
    path, content = tmp_path / "weights.pth", bytearray(saved)
    content[content.rindex(b"weights/data/0") - 8] |= 0x10  # external attributes, in the archive's directory
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged .at weights/data/0"):
        read_checkpoint(path)


def test_missing_and_folders(tmp_path):
    with pytest.raises(InputError, match="nothing.pth can't be opened .No such file"):
        read_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(InputError, match="is a folder: name a file"):
        read_checkpoint(tmp_path)
    for name in ("model_0000099.pth", "model_final.pth"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"such as .*model_final.pth$"):
        read_checkpoint(tmp_path)


# --- of several processes


@pytest.fixture
def mesh():
    """Of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


@pytest.mark.parametrize("zipped", [True, False])
def test_sharded_tensors_are_named_with_the_cure(tmp_path, mesh, zipped):
    path, whole = tmp_path / "weights.pth", torch.arange(6.0).view(2, 3)
    sharded = distribute_tensor(whole, mesh, [Shard(0)])
    torch.save(CONTENT | {"model": {"a": sharded}}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=rf"^{path} holds tensors that are spread over .*full_tensor\(\)[^\n]*$"):
        read_checkpoint(path)
    torch.save({"model": {"a": sharded.full_tensor()}}, path)
    assert torch.equal(read_checkpoint(path)["model"]["a"], whole)


@pytest.mark.filterwarnings("ignore")
def test_sharded_tensors_of_the_older_kind_are_named_too(tmp_path, mesh):
    """Which torch refuses to open."""
    spec = ChunkShardingSpec(dim=0, placements=["rank:0/cpu"])
    torch.save({"model": {"a": sharded_tensor.ones(spec, 4, 3)}}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth holds tensors that are spread over processes"):
        read_checkpoint(tmp_path / "weights.pth")


@pytest.mark.filterwarnings("ignore")
def test_distributed_checkpoints_are_named_with_the_cure(tmp_path):
    folder = tmp_path / "step-100"
    dcp.save({"model": CONTENT["model"]}, checkpoint_id=folder)
    for path in (folder, folder / "__0_0.distcp", folder / ".metadata"):
        with pytest.raises(InputError) as refusal:
            read_checkpoint(path)
        assert str(refusal.value).startswith(f"{path} is a distributed checkpoint: ")
        assert f"dcp_to_torch_save('{folder}', 'weights.pth')" in str(refusal.value)
    dcp_to_torch_save(folder, tmp_path / "weights.pth")
    assert same(read_checkpoint(tmp_path / "weights.pth"))


def test_a_list_is_no_checkpoint(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "weights.pth")
    with pytest.raises(InputError, match="holds a list"):
        read_checkpoint(tmp_path / "weights.pth")


@given(st.floats(0, 1, exclude_max=True))
def test_every_truncated_file_is_refused(saved, folder, share):
    path = folder / "truncated.pth"
    path.write_bytes(saved[: int(len(saved) * share)])
    with pytest.raises(InputError, match=f"^{path}"):
        read_checkpoint(path)


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_every_damaged_file_is_refused_or_read_right(saved, folder, flips):
    damaged = bytearray(saved)
    for share, bits in flips:
        damaged[int(share * len(saved))] ^= bits
    path = folder / "damaged.pth"
    path.write_bytes(damaged)
    try:
        content = read_checkpoint(path)
    except InputError as error:
        assert str(error).startswith(str(path))
    else:
        assert same(content)


@given(st.floats(0, 1, exclude_max=True))
def test_truncated_safetensors_are_refused(folder, share):
    path = folder / "truncated.safetensors"
    save_file(CONTENT["model"], path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=f"^{path}"):
        read_checkpoint(path)
