"""Pretraining reads shards as it reads the same files in a folder, bit for bit; a shard that is lost ends it."""

import itertools
import logging
import os
import shutil
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from convmae_det.data.inspection.inspection import inspect_data
from convmae_det.data.inspection.request import read_request
from convmae_det.data.pretraining.loader import build_pretraining_dataset, build_pretraining_loader
from convmae_det.data.shards.images import register_shards
from convmae_det.data.shards.members import Member, ShardError
from convmae_det.data.shards.writing import Packing, write_shards
from convmae_det.errors import InputError

PATTERN = "{000000..000003}.tar"


@pytest.fixture(scope="module")
def written(tmp_path_factory, encode):
    """A folder of eleven images in four folders, two of them damaged, and the same as shards of three."""
    root = tmp_path_factory.mktemp("written")
    for number in range(11):
        path = root / "images" / ("abc"[number % 3] if number % 4 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(number, (20 + number, 30)))
    write_shards(str(root / "images"), str(root / "shards"), Packing(10**9, 3, 0, 10**6))
    return root


@pytest.fixture
def data(written, tmp_path):
    """A copy of them that a test can spoil."""
    shutil.copytree(written, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def cfg(cfg, data, catalog):
    cfg.merge_from_list(["MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 16, "SOLVER.IMS_PER_BATCH", 3])
    cfg.merge_from_list(["DATASETS.IMAGE_FOLDERS", [["files", f"{data}/images"]]])
    cfg.merge_from_list(["DATASETS.SHARDS", [["shards", f"{data}/shards/{PATTERN}"]]])
    cfg.DATASETS.TRAIN = ("shards",)
    return cfg


def take(cfg, count, start=0):
    return list(itertools.islice(build_pretraining_loader(cfg, start), count))


def spoil(data, number):
    """Damages an image in the folder and in its shard."""
    (file,) = (data / "images").rglob(f"{number}.png")
    content = file.read_bytes()
    for path in [file, *(data / "shards").glob("*.tar")]:
        path.write_bytes(path.read_bytes().replace(content, bytes(len(content))))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_folder(cfg, data, workers):
    """Also from the middle on, and where an image is replaced by another since it can't be read."""
    spoil(data, 5)
    cfg.DATASETS.TRAIN = ("files",)
    expected = take(cfg, 9)
    cfg.DATASETS.TRAIN, cfg.DATALOADER.NUM_WORKERS = ("shards",), workers
    for start in (0, 4):
        for batch, other in zip(take(cfg, 9 - start, start), expected[start:], strict=True):
            assert torch.equal(batch["images"], other["images"])
            for key in ("file_names", "skipped"):
                assert len(batch[key]) == len(other[key])
            names = [name.rpartition(":")[2] for name in batch["file_names"]]
            assert names == [os.path.relpath(name, data / "images") for name in other["file_names"]]
    skipped = dict(pair for batch in expected for pair in batch["skipped"])
    assert len(skipped) == 1 and next(iter(skipped)).endswith("5.png")


def test_the_images_of_shards(cfg, data):
    (images,) = build_pretraining_dataset(cfg).datasets
    assert len(images) == 11 and [item["image_id"] for item in images] == list(range(11))
    names = [item["file_name"] for item in images]
    assert all(type(name) is Member for name in names) and images[-1]["file_name"] == names[-1]
    files = {str(path.relative_to(data / "images")): path.read_bytes() for path in (data / "images").rglob("*.png")}
    assert {name.rpartition(":")[2]: name.read() for name in names} == files
    assert [name.partition(":")[0] for name in names] == [f"{data}/shards/{i // 3:06}.tar" for i in range(11)]
    with pytest.raises(IndexError):
        images[11]
    digest = images.digest()
    cfg.DATASETS.SHARDS = [["shards", [f"{data}/shards/00000{i}.tar" for i in (1, 0, 2, 3)]]]
    assert build_pretraining_dataset(cfg).datasets[0].digest() != digest


def test_shards_in_a_store(cfg, data, store):
    expected = take(cfg, 4)
    for path in (data / "shards").glob("*.tar"):
        store.pipe(f"/bucket/{path.name}", path.read_bytes())
    cfg.DATASETS.SHARDS = [["shards", f"flaky://bucket/{PATTERN}"]]
    cfg.DATASETS.SHARD_CACHE = str(data / "copies")
    store.failures.append(ConnectionError("reset by peer"))
    for batch, other in zip(take(cfg, 4), expected, strict=True):
        assert torch.equal(batch["images"], other["images"])
        assert all(name.startswith("flaky://bucket/00000") for name in batch["file_names"])
    assert len(list((data / "copies").glob("*/*.tar"))) == 4


def test_shards_mix_with_other_data_sets(cfg, data):
    cfg.DATASETS.TRAIN = ("files", "shards")
    assert len(build_pretraining_dataset(cfg)) == 22
    cfg.DATASETS.SHARDS += [["elsewhere", "nowhere.tar"]]  # which TRAIN doesn't name
    assert len(build_pretraining_dataset(cfg)) == 22


def test_every_page_is_an_image(cfg, data, write_tar, encode):
    content = BytesIO()
    first, second = (Image.open(BytesIO(encode(number))) for number in (1, 2))
    first.save(content, "TIFF", save_all=True, append_images=[second])
    cfg.DATASETS.SHARDS = [["shards", write_tar("pages.tar", {"1.tif": content.getvalue(), "2.png": encode(3)})]]
    cfg.INPUT.ALL_PAGES, cfg.MODEL.META_ARCHITECTURE = True, "MaskedAutoencoder"
    assert [item["page"] for item in build_pretraining_dataset(cfg)] == [0, 1, 0]
    assert {batch["file_names"][0][-5:] for batch in take(cfg, 3)} <= {"1.tif", "2.png"}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_is_lost_ends_the_run(cfg, data, workers):
    """It is no single image that can be replaced: what follows would be another run."""
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = build_pretraining_loader(cfg)
    shard = data / "shards" / "000002.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(InputError, match="000002.tar has changed since its images were listed"):
        list(itertools.islice(loader, 5))


def test_a_shard_that_is_damaged_before_the_run(cfg, data):
    shard = data / "shards" / "000002.tar"
    shard.write_bytes(shard.read_bytes()[:1500])
    with pytest.raises(ShardError, match="000002.tar is cut"):
        build_pretraining_dataset(cfg)
    shard.unlink()
    with pytest.raises(InputError, match="000002.tar, a shard of shards in DATASETS.SHARDS, doesn't exist: correct it"):
        build_pretraining_dataset(cfg)


def test_what_is_left_out_is_said(cfg, write_tar, encode, caplog):
    files = ["1.json", "1.png", "1.mask.png", "2.png", "3.mp4"]
    tars = [write_tar(f"{number}.tar", dict.fromkeys(files, encode(number))) for number in range(2)]
    cfg.DATASETS.SHARDS = [["shards", tars]]
    with caplog.at_level(logging.INFO):
        assert len(build_pretraining_dataset(cfg)) == 4
    for sentence in (
        "shards: 4 images in 2 shards, 0.00 GB",
        f"left out 2 images that have the name of another up to the first dot, as masks have, such as {tars[0]}:1.ma",
        f"left out 2 .mp4, such as {tars[0]}:3.mp4 (a video",
        f"2 that are no images (.json), such as {tars[0]}:1.json",
    ):
        assert sentence in caplog.text


@pytest.mark.parametrize(
    "entry",
    ["mine", ["mine"], ["mine", "a", "b"], [2017, "a"], ["mine", None], ["", "a"], {}, ["mine", []], ["m", [1]]],
)
def test_malformed_entries(entry):
    with pytest.raises(InputError, match=r"^DATASETS.SHARDS holds .*make it a list of pairs, \[\[name, path/\{000"):
        register_shards([entry])


def test_names(cfg, data):
    cfg.DATASETS.TRAIN = ("shard",)
    with pytest.raises(InputError, match="'shard' is not registered: did you mean shards"):
        build_pretraining_dataset(cfg)
    for entries, message in [
        ([["mine", "a.tar"], ["mine", "b.tar"]], "^DATASETS.SHARDS names mine twice"),
        ([["coco_2017_train", "a.tar"]], "coco_2017_train in DATASETS.SHARDS belongs to another data set"),
        ([["files", "a.tar"]], "files in DATASETS.SHARDS belongs to another data set"),
    ]:
        cfg.DATASETS.SHARDS = entries
        with pytest.raises(InputError, match=message):
            build_pretraining_dataset(cfg)


def test_check(data, catalog):
    """`convmae-det check` reads shards as it reads folders."""
    spoil(data, 5)
    shutil.copy(data / "shards/000000.tar", data / "shards/000004.tar")
    cfg = read_request("", [f"{data}/shards/*.tar"], [], [])
    found = inspect_data(cfg, False)
    assert not found.missing and len(found.files) == 14
    assert [Path(path).name for path, file in found.files.items() if file.error] == ["5.png"]
    assert found.splits[0].source == f"{data}/shards/*.tar"
