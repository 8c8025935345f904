"""The detector's loaders from a configuration to batches."""

import itertools

import pytest
import torch

from convmae_det.data.detection.loader import build_test_loader, build_train_dataset, build_train_loader
from convmae_det.errors import InputError


def take(cfg, steps, start=0):
    return [
        [(sample["image_id"], sample["image"], sample["instances"].gt_boxes.tensor) for sample in batch]
        for batch in itertools.islice(build_train_loader(cfg, start), steps)
    ]


def equal(batches, others):
    assert len(batches) == len(others)
    for sample, other in zip(sum(batches, []), sum(others, []), strict=True):
        if sample[0] != other[0] or not all(map(torch.equal, sample[1:], other[1:])):
            return False
    return True


@pytest.mark.parametrize("workers, start", [(0, 0), (1, 2), (2, 3)])
def test_crops_and_flips_are_reproducible(cfg, register, workers, start):
    register()
    expected = take(cfg, 6)
    assert {len(batch) for batch in expected} == {2} and not equal(expected[:2], expected[2:4])
    cfg.DATALOADER.NUM_WORKERS = workers
    assert equal(take(cfg, 6 - start, start), expected[start:])


def test_epoch_is_the_number_of_usable_images(cfg, register):
    register(lambda content: content["annotations"].pop(0) and content["annotations"].pop(0))
    dataset = build_train_dataset(cfg)
    assert len(dataset) == 3
    loader = build_train_loader(cfg, dataset=dataset)
    ids = [sample["image_id"] for batch in itertools.islice(loader, 3) for sample in batch]
    assert sorted(ids[:3]) == sorted(ids[3:]) == [2, 3, 4]


def test_test_loader_keeps_order_and_images_without_objects(cfg, register):
    register(lambda content: content["annotations"].clear())
    loader = build_test_loader(cfg, "mini")
    assert len(loader) == 4
    assert [[sample["image_id"] for sample in batch] for batch in loader] == [[1], [2], [3], [4]]


@pytest.mark.parametrize("build", [build_train_loader, lambda cfg: build_test_loader(cfg, "mini")])
def test_a_corrupt_image_in_a_worker_is_one_sentence(cfg, register, tmp_path, build):
    register()
    (tmp_path / "images" / "2.png").write_bytes(b"")
    cfg.DATALOADER.NUM_WORKERS = 2
    with pytest.raises(InputError) as caught:
        list(itertools.islice(build(cfg), 4))
    assert str(caught.value) == (
        f"{tmp_path}/images/2.png can't be read as an image (it is empty): repair or replace the file, or take it out "
        "of the data set."
    )


def test_number_of_classes_is_checked(cfg, register):
    register()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    for build in (build_train_loader, lambda cfg: build_test_loader(cfg, "mini")):
        with pytest.raises(InputError, match="MODEL.ROI_HEADS.NUM_CLASSES is 80, but the data set mini has 2"):
            build(cfg)


@pytest.mark.parametrize(
    "key, value", [("SAMPLER_TRAIN", "RandomSubsetTrainingSampler"), ("ASPECT_RATIO_GROUPING", True)]
)
def test_other_orders_are_refused(cfg, key, value):
    cfg.merge_from_list([f"DATALOADER.{key}", value])
    with pytest.raises(InputError, match=f"DATALOADER.{key} is {value!r}; it must be"):
        build_train_loader(cfg)


def keep_one(content):
    """Objects of the second class in the first of four images alone."""
    content["annotations"] = [
        entry for entry in content["annotations"] if entry["category_id"] == 7 or entry["image_id"] == 1
    ]


@pytest.mark.parametrize("sqrt, times", [(False, 4), (True, 2)])
def test_images_of_rare_classes_come_more_often(cfg, register, sqrt, times):
    """A class in a quarter of the images, with threshold 1: four times, or with the root two times."""
    register(keep_one)
    cfg.merge_from_list(["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"])
    cfg.merge_from_list(["DATALOADER.REPEAT_THRESHOLD", 1.0, "DATALOADER.REPEAT_SQRT", sqrt])
    dataset = build_train_dataset(cfg)
    assert len(dataset) == 3 + times
    cfg.SOLVER.IMS_PER_BATCH = len(dataset)
    ids = [[sample["image_id"] for sample in batch] for batch in itertools.islice(build_train_loader(cfg), 3)]
    assert all(sorted(epoch) == [1] * times + [2, 3, 4] for epoch in ids)
    expected = take(cfg, 3)
    cfg.DATALOADER.NUM_WORKERS = 2
    assert equal(take(cfg, 2, 1), expected[1:])


def test_repeating_needs_a_threshold(cfg, register):
    register()
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    with pytest.raises(InputError, match=r"DATALOADER.REPEAT_THRESHOLD is 0.0; it must be a share"):
        build_train_dataset(cfg)


def test_real_coco(cfg, register, real_coco):
    register(json_file=f"{real_coco}/annotations/instances_train2017.json", image_root=f"{real_coco}/train2017")
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    samples = sum(itertools.islice(build_train_loader(cfg), 16), [])
    assert len({sample["image_id"] for sample in samples}) == 32
    assert max(sample["image"].shape[1:].numel() for sample in samples) == 64 * 64
    instances = [sample["instances"] for sample in samples]
    assert sum(map(len, instances)) > 50
    assert all(len(objects.gt_masks) == len(objects) and (objects.gt_classes < 80).all() for objects in instances)
