"""The summary counts what there is, and what is left out."""

import logging
import re

import pytest
from detectron2.structures import BoxMode
from detectron2.utils import comm, logger
from hypothesis import given
from hypothesis import strategies as st

from convmae_det.data.detection.catalog import load_dataset_dicts
from convmae_det.data.detection.summary import TABLE_WIDTH, describe_data_set, describe_unusable_images


@pytest.fixture
def said(caplog, cfg):
    """said(is_train) loads the data set mini and returns what was logged."""
    logger._LOG_COUNTER.clear()

    def said(is_train=True):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            load_dataset_dicts("mini", is_train=is_train, cfg=cfg)
        return caplog.text

    return said


def image(*objects, width=100, height=50):
    """objects: of width, height, class, crowd"""
    annotations = [
        {"bbox": [3, 4, w, h], "bbox_mode": BoxMode.XYWH_ABS, "category_id": number, "iscrowd": crowd}
        for w, h, number, crowd in objects
    ]
    return {"width": width, "height": height, "annotations": annotations}


def spoil(content):
    content["annotations"][2]["iscrowd"] = content["annotations"][3]["iscrowd"] = 1  # all of image 2
    content["annotations"][4]["iscrowd"] = 1  # half of image 3
    content["annotations"][5]["bbox"][2] = 0
    content["annotations"] = content["annotations"][:6]  # none in image 4


def test_what_is_dropped_and_why(register, said):
    register(spoil)
    text = said()
    assert "Data set mini: 4 images, " in text and "  3 objects: " in text
    assert "left out: 1 image without objects (DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps them)" in text
    assert "left out: 1 image with crowd regions alone" in text
    assert "left out: 3 crowd regions" in text and "1 object whose box has no width or no height" in text
    assert re.search(r"\| class 7 +\| +1 \|", text) and re.search(r"\| class 90 +\| +2 \|", text)


def test_it_is_said_once(register, said):
    register()
    text = said()
    assert text.count("class 90") == 1  # Detectron2's own table would be the second
    assert "Data set mini" not in said()


def test_of_test_data_nothing_is_left_out_for_want_of_objects(register, said):
    register(lambda content: content["annotations"].clear())
    text = said(is_train=False)
    assert "4 images" in text and "  0 objects" in text and "without objects" not in text


def test_kept_images_are_not_said_to_be_left_out(cfg, register, said):
    register(spoil)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert "without objects" not in said()


def test_other_processes_are_silent(register, said, monkeypatch):
    register()
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert "Data set" not in said()


def test_sizes():
    sizes = [(30, 40), (500, 20), (10, 10)]
    text = describe_data_set("x", [image(width=width, height=height) for width, height in sizes], ())
    assert "10×10 (smallest), 30×40 (median) to 500×20 pixels (largest)" in text
    assert "all 100×50 pixels" in describe_data_set("x", [image()] * 3, ())
    objects = [(31, 33, 0, 0), (32, 32, 0, 0), (95, 96, 0, 0), (96, 96, 0, 0), (1, 1, 0, 1)]
    text = describe_data_set("x", [image(*objects)], ["a"])
    assert "4 objects: 1 small (box below 32² pixels), 2 medium, 1 large (from 96² pixels)" in text


def test_boxes_given_by_corners():
    (entry,) = [image((10, 20, 0, 0))]
    entry["annotations"][0] |= {"bbox": [90, 90, 100, 110], "bbox_mode": BoxMode.XYXY_ABS}
    assert "the median box is 14² pixels" in describe_data_set("x", [entry], ["a"])


def test_images_without_annotations():
    assert describe_data_set("x", [{"width": 3, "height": 4}], ["a"]) == "Data set x: 1 image, all 3×4 pixels"


@given(st.lists(st.integers(0, 20000), min_size=1, max_size=99), st.integers(1, 40))
def test_every_class_is_in_the_table(counts, length):
    names = [f"{i}".ljust(length, "x") for i in range(len(counts))]
    classes = [(9, 9, number, 0) for number, count in enumerate(counts) for _ in range(count % 4)]
    lines = describe_data_set("x", [image(*classes)], names).splitlines()[2:]
    cells = [cell.strip() for line in lines[2:] for cell in line.strip("|").split("|")]
    assert dict(zip(cells[::2], cells[1::2], strict=True)) | {"": ""} == {
        name: str(count % 4) for name, count in zip(names, counts, strict=True)
    } | {"": ""}
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= max(TABLE_WIDTH, length + 20)


@given(st.lists(st.lists(st.integers(0, 1), max_size=3)))
def test_images_that_cannot_be_learned_from(crowds):
    images = [image(*((9, 9, 0, crowd) for crowd in row)) for row in crowds]
    counted = [int(line.split()[0]) for line in describe_unusable_images(images)]
    assert sum(counted) == sum(0 not in row for row in crowds)
