"""Batches from folders and registered data sets, reproducible; files that can't be read are passed over."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from convmae_det.data.pretraining import folders as image_folder
from convmae_det.data.pretraining.loader import (
    build_pretraining_dataset,
    build_pretraining_loader,
)
from convmae_det.data.pretraining.mapper import MAX_ATTEMPTS
from convmae_det.data.pretraining.skipped_images import SkippedImageLog
from convmae_det.errors import InputError


@pytest.fixture
def cfg(cfg, tmp_path, monkeypatch):
    """For the folder tmp_path/folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cfg.merge_from_list(["MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 16, "DATASETS.TRAIN", ("folder",)])
    cfg.merge_from_list(["DATASETS.IMAGE_FOLDERS", [["folder", str(tmp_path / "folder")]], "SOLVER.IMS_PER_BATCH", 3])
    yield cfg
    if "folder" in DatasetCatalog:
        DatasetCatalog.remove("folder")
        MetadataCatalog.remove("folder")


@pytest.fixture
def folder(tmp_path):
    """Eight images of noise, of various sizes."""
    rng = np.random.default_rng(0)
    for number in range(8):
        save(tmp_path / "folder" / str(number % 2) / f"{number}.png", noise(rng, *rng.integers(8, 40, 2)))
    return tmp_path / "folder"


def noise(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def take(cfg, batches, start=0):
    return list(itertools.islice(build_pretraining_loader(cfg, start), batches))


def take_samples(cfg, count):
    """Of the same stream, before they are stacked to batches."""
    stream = build_pretraining_loader(cfg).loader.dataset
    return [stream[position] for position in range(count)]


def describe(batches):
    return [batch | {"images": batch["images"].tolist()} for batch in batches]


# What a sample is.


def test_a_sample(cfg, folder):
    samples = take_samples(cfg, 24)
    for sample in samples:
        with Image.open(sample["file_name"]) as image:
            assert (sample["width"], sample["height"]) == image.size
        assert sample["image"].shape == (3, 16, 16) and sample["image"].dtype == torch.uint8
        assert sample["skipped"] == []
    for epoch in range(3):
        assert len({sample["file_name"] for sample in samples[epoch * 8 : epoch * 8 + 8]}) == 8


# Where the samples come from.


def test_a_batch(cfg, folder):
    """Images are one tensor; and what is said of them is in their order."""
    (folder / "0" / "2.png").write_bytes(b"damaged")
    batches, samples = take(cfg, 8), iter(take_samples(cfg, 24))
    for batch in batches:
        parts = list(itertools.islice(samples, len(batch["images"])))
        assert torch.equal(batch["images"], torch.stack([part["image"] for part in parts]))
        assert batch["file_names"] == [part["file_name"] for part in parts]
        assert batch["skipped"] == [pair for part in parts for pair in part["skipped"]]
    assert next(samples, None) is None and batches[0]["images"].dtype == torch.uint8


@pytest.mark.parametrize("workers, start", [(0, 3), (1, 2), (2, 0)])
def test_reproducible_whatever_the_workers_and_the_start(cfg, folder, workers, start):
    (folder / "0" / "2.png").write_bytes(b"damaged")
    expected = describe(take(cfg, 6))
    assert any(batch["skipped"] for batch in expected)
    cfg.DATALOADER.NUM_WORKERS = workers
    assert describe(take(cfg, 6 - start, start)) == expected[start:]


def test_annotations_are_ignored(cfg, register):
    def spare_some(content):  # images without objects count, and objects without masks do no harm
        content["annotations"] = [{**content["annotations"][0]}]
        del content["annotations"][0]["segmentation"]

    register(spare_some)
    cfg.DATASETS.TRAIN, cfg.DATASETS.IMAGE_FOLDERS = ("mini",), []
    assert len(build_pretraining_dataset(cfg)) == 4
    (batch,) = take(cfg, 1)
    assert batch.keys() == {"images", "file_names", "skipped"}


def test_folders_and_registered_data_sets_mix(cfg, folder, register):
    register()
    cfg.DATASETS.TRAIN = ("folder", "mini")
    names = [image["file_name"] for image in build_pretraining_dataset(cfg)]
    assert len(set(names)) == 12
    assert {name for batch in take(cfg, 4) for name in batch["file_names"]} == set(names)


def test_folders_that_training_does_not_name_may_be_missing(cfg, folder, tmp_path):
    cfg.DATASETS.IMAGE_FOLDERS = [["folder", str(folder)], ["elsewhere", str(tmp_path / "nowhere")]]
    assert len(build_pretraining_dataset(cfg)) == 8
    cfg.DATASETS.TRAIN = ("elsewhere",)
    with pytest.raises(InputError, match="nowhere"):
        build_pretraining_dataset(cfg)


def test_real_coco(cfg, register, real_coco):
    register(json_file=f"{real_coco}/annotations/instances_train2017.json", image_root=f"{real_coco}/train2017")
    cfg.DATASETS.TRAIN, cfg.DATASETS.IMAGE_FOLDERS = ("mini",), []
    assert len(build_pretraining_dataset(cfg)) == 288
    cfg.DATASETS.TRAIN, cfg.DATASETS.IMAGE_FOLDERS = ("folder",), [["folder", f"{real_coco}/train2017"]]
    assert len(build_pretraining_dataset(cfg)) == 288
    assert all(image.float().std() > 1 for batch in take(cfg, 4) for image in batch["images"])


def test_a_data_set_that_is_missing(cfg, folder, register, tmp_path):
    cfg.DATASETS.TRAIN = ("foldre",)
    with pytest.raises(InputError, match="^The data set 'foldre' is not registered: did you mean folder"):
        build_pretraining_dataset(cfg)
    cfg.DATASETS.TRAIN = ("imagenet_train",)
    with pytest.raises(
        InputError, match=r"'imagenet_train' is not registered: did you mean folder, which DATASETS lists"
    ):
        build_pretraining_dataset(cfg)
    register(json_file=tmp_path / "gone.json")
    cfg.DATASETS.TRAIN = ("mini",)
    with pytest.raises(InputError, match="gone.json, the annotation file of the data set mini, doesn't exist"):
        build_pretraining_dataset(cfg)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(InputError, match=r"^DATASETS.TRAIN is \(\); it must name"):
        build_pretraining_dataset(cfg)


@pytest.mark.parametrize(
    "key, value",
    [
        ("INPUT.FORMAT", "HSV"),
        ("INPUT.FORMAT", "L"),  # three entries in MODEL.PIXEL_MEAN
        ("INPUT.RANDOM_FLIP", "diagonal"),
        ("INPUT.PRETRAIN_CROP_SCALE", [0.0, 1.0]),
        ("INPUT.PRETRAIN_CROP_SCALE", [0.5, 0.2]),
        ("INPUT.PRETRAIN_CROP_SCALE", [0.5, 1.2]),
        ("INPUT.PRETRAIN_CROP_SCALE", [float("nan"), 1.0]),
        ("INPUT.PRETRAIN_CROP_SCALE", [0.5]),
        ("MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", 0),
    ],
)
def test_bad_values_are_named(cfg, folder, key, value):
    cfg.merge_from_list([key, value])
    with pytest.raises(InputError, match=key):
        build_pretraining_loader(cfg)


# Several processes.


@pytest.fixture
def in_two_processes(monkeypatch):
    """in_two_processes(function): its results, or InputErrors, in two threads that take each other for processes."""
    local, slots, barrier = threading.local(), [None, None], threading.Barrier(2)

    def all_gather(value):
        slots[local.rank] = value
        barrier.wait(10)
        values = list(slots)
        barrier.wait(10)
        return values

    def run(function, rank):
        local.rank = rank
        try:
            return function()
        except InputError as error:
            return error

    monkeypatch.setattr("detectron2.utils.comm.all_gather", all_gather)
    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: local.rank == 0)

    def in_two_processes(function):
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(run, [function] * 2, range(2)))

    return in_two_processes


@pytest.fixture
def walks(monkeypatch):
    walks, walk = [], image_folder._walk
    monkeypatch.setattr(image_folder, "_walk", lambda folder, *rest: walks.append(folder) or walk(folder, *rest))
    monkeypatch.setattr(image_folder, "SETTLED", 0)
    return walks


def test_one_process_lists_for_all(cfg, folder, walks, in_two_processes):
    first, second = in_two_processes(lambda: build_pretraining_dataset(cfg))
    assert list(first) == list(second) and len(first) == 8 and len(walks) == 1


def test_errors_are_raised_in_all_processes(cfg, tmp_path, in_two_processes):
    (tmp_path / "folder").mkdir()
    first, second = in_two_processes(lambda: build_pretraining_dataset(cfg))
    assert str(first) == str(second) and "holds no images" in str(first)


def test_processes_that_find_other_images_stop(cfg, folder, walks, in_two_processes, monkeypatch):
    monkeypatch.setattr(image_folder, "_read_cache", lambda path: None if not walks else add_image())

    def add_image():
        save(folder / "new.png", np.zeros((2, 2, 3), np.uint8))

    for error in in_two_processes(lambda: build_pretraining_dataset(cfg)):
        assert "not the same for all processes" in str(error)


# Files that can't be read.


def test_a_damaged_file_changes_only_its_own_samples(cfg, folder):
    expected = take_samples(cfg, 24)
    damaged = str(folder / "0" / "2.png")
    (folder / "0" / "2.png").write_bytes(b"")
    for sample, other in zip(take_samples(cfg, 24), expected, strict=True):
        if other["file_name"] == damaged:
            assert {name for name, _ in sample["skipped"]} == {damaged} != {sample["file_name"]}
        else:
            assert torch.equal(sample.pop("image"), other.pop("image")) and sample == other


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_without_a_readable_file_stops(cfg, folder, workers):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"damaged")
    cfg.DATALOADER.NUM_WORKERS = workers
    with pytest.raises(
        InputError, match=rf"^None of {MAX_ATTEMPTS} images drawn can be read; the last: {folder}/.*\.png"
    ):
        take(cfg, 1)


def test_skipped_images_of_a_run(cfg, folder, tmp_path, caplog):
    damaged = [folder / "0" / "2.png", folder / "1" / "5.png"]
    for path in damaged:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    log = SkippedImageLog(tmp_path / "skipped_images.log")
    for batch in take(cfg, 12):
        log.update(batch["skipped"])
    lines = sorted((tmp_path / "skipped_images.log").read_text().splitlines())
    assert [line.split("\t")[0] for line in lines] == list(map(str, damaged))
    assert all("truncated" in line.split("\t")[1] for line in lines)
    assert log.count == 2 and caplog.text.count("is skipped: it can't be read") == 2
