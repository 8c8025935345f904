"""Splits are the same for a seed, and have all classes in the same proportions."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmae_det.cli import convert_annotations
from convmae_det.data.detection.foreign_formats.splitting import split_images
from convmae_det.errors import InputError


@settings(max_examples=30)
@given(
    st.lists(st.sets(st.integers(1, 5), max_size=3), min_size=2, max_size=60), st.floats(0.05, 0.95), st.integers(0, 5)
)
def test_any_images(classes, share, seed):
    is_train = split_images(classes, share, seed)
    assert 0 < is_train.sum() < len(classes)
    assert np.array_equal(is_train, split_images(classes, share, seed))


@pytest.mark.parametrize("seed", range(5))
def test_one_class_an_image_is_divided_exactly(seed):
    classes = [{1}] * 50 + [{2}] * 10 + [{3}] * 5 + [set()] * 20 + [{4}] * 2 + [{5}]
    is_train = split_images(classes, 0.8, seed)
    numbers = np.array([min(found, default=0) for found in classes])
    assert np.bincount(numbers, is_train).tolist() == [16, 40, 8, 4, 1, 1]


def test_many_classes_an_image():
    rng = np.random.default_rng(0)
    rates = np.array([0.5, 0.3, 0.1, 0.05, 0.02])
    present = rng.random((400, len(rates))) < rates
    is_train = split_images([set((np.flatnonzero(row) + 1).tolist()) for row in present], 0.75, 0)
    assert np.abs(present[is_train].sum(0) / present.sum(0) - 0.75).max() < 0.06
    assert abs(is_train.mean() - 0.75) < 0.02


def test_seeds_differ():
    classes = [{1}] * 30
    splits = {split_images(classes, 0.5, seed).tobytes() for seed in range(4)}
    assert len(splits) == 4


def test_one_image_can_not_be_split():
    with pytest.raises(InputError, match="--split 0.8 needs two images at least, but there is 1"):
        split_images([{1}], 0.8, 0)


def test_the_command(export, capsys):
    """The splits of the format are joined, and split anew; both files have all categories, and no image in common."""
    export("yolo", "images/{split}")
    convert_annotations.main([".", "--split", "0.6", "--seed", "3", "--output", "out.json"])
    train, val = (json.loads(Path(f"out_{name}.json").read_text()) for name in ("train", "val"))
    assert train["categories"] == val["categories"] and not Path("out.json").exists()
    names = [[image["file_name"] for image in content["images"]] for content in (train, val)]
    assert sorted(names[0] + names[1]) == ["train/a.png", "train/c.png", "val/b.png"]
    assert [len(part) for part in names] == [2, 1]
    for content in (train, val):
        assert {entry["image_id"] for entry in content["annotations"]} <= {image["id"] for image in content["images"]}
    said = capsys.readouterr().out
    assert "format's own splits were split anew (3" in said and said.count("DATASETS.COCO_FORMAT") == 2
