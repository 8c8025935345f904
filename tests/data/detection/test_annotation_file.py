"""Each thing that can be wrong with an annotation file has its sentence."""

import copy
import json

import pytest

from convmae_det.data.detection.annotation_file import read_annotation_file
from convmae_det.errors import InputError

GOOD = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 6}, {"id": 2, "file_name": "b.jpg"}],
    "categories": [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 0], "segmentation": [[0, 0, 2, 0, 2, 2]]},
        {"id": 2, "image_id": 1, "category_id": 90, "bbox": [0, 0, 2, 3.5], "segmentation": [[0, 0], [1, 1, 1]]},
        {"id": 3, "image_id": 2, "category_id": 90, "bbox": [-1, 0, 2, 3], "iscrowd": 1},
        {"id": 4, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2], "segmentation": {"size": [4, 6]}},
    ],
}
GOOD["images"][1] |= {"height": 4.0, "width": 6.0}
GOOD["annotations"][3]["segmentation"]["counts"] = [10, 4, 10]


def check(tmp_path, content, **options):
    path = tmp_path / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    read_annotation_file(path, **({"is_train": True} | options))


def test_good_file(tmp_path):
    check(tmp_path, GOOD)
    check(tmp_path, GOOD, class_names=["cat", "dog"])


def test_test_images_need_no_annotations(tmp_path):
    content = {section: GOOD[section] for section in ("images", "categories")}
    check(tmp_path, content, is_train=False)
    with pytest.raises(InputError, match="it has no field 'annotations'"):
        check(tmp_path, content)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", r"line 1, column 1: Expecting value"),
        (json.dumps(GOOD)[:-9], r"line 1, column \d+: "),
        ("<?xml version='1.0'?>", r"line 1, column 1: "),
        ('{"images": [],\n "annotations": [],,}', r"line 2, column 20: "),
        ("[" * 100000, "recursion"),
    ],
)
def test_what_is_not_json(tmp_path, text, problem):
    with pytest.raises(InputError, match=rf"annotations\.json is not JSON \(.*{problem}.*\); restore the file"):
        check(tmp_path, text)


def test_binary_file_is_not_json(tmp_path):
    (tmp_path / "image.json").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match=r"image\.json is not JSON \(.*can't decode"):
        read_annotation_file(tmp_path / "image.json", is_train=True)


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
def test_missing_section(tmp_path, section):
    content = {name: entries for name, entries in GOOD.items() if name != section}
    with pytest.raises(InputError, match=f"it has no field '{section}'; correct the file"):
        check(tmp_path, content)


FIELDS = [("images", field) for field in ("id", "file_name", "height", "width")]
FIELDS += [("annotations", field) for field in ("id", "image_id", "category_id", "bbox")]
FIELDS += [("categories", "id"), ("categories", "name")]


@pytest.mark.parametrize("section, field", FIELDS)
def test_missing_field(tmp_path, section, field):
    content = copy.deepcopy(GOOD)
    identity = content[section][1].pop(field) if field == "id" else content[section][1]["id"]
    content[section][1].pop(field, None)
    where = "" if field == "id" else rf" \(id {identity!r}\)"
    with pytest.raises(InputError, match=f"entry 2 of '{section}'{where} has no field '{field}'"):
        check(tmp_path, content)


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    "section, number, changes, problem",
    [
        ("images", 1, {"id": 1}, "2 entries of 'images' have the id 1"),
        ("annotations", 2, {"id": 1}, "2 entries of 'annotations' have the id 1"),
        ("categories", 0, {"id": 7}, "2 entries of 'categories' have the id 7"),
        ("categories", 0, {"id": "seven"}, "entry 1 of 'categories' has the id 'seven', which is not a whole"),
        ("images", 0, {"id": [1]}, r"entry 1 of 'images' has the id \[1\], which is not a whole number"),
        ("images", 0, {"id": 1.5}, "entry 1 of 'images' has the id 1.5, which is not a whole number or text"),
        ("images", 0, {"file_name": None}, "image 1 has the file name None"),
        ("images", 0, {"height": 0}, r"image 1 \(a.jpg\) has width and height \[6, 0\], which are not two"),
        ("images", 0, {"width": "six"}, r"image 1 \(a.jpg\) has width and height \['six', 4\]"),
        ("annotations", 0, {"image_id": 5}, "annotation 1 belongs to image 5, which is not in 'images'"),
        ("annotations", 0, {"image_id": "one"}, "annotation 1 belongs to image 'one', which is not"),
        ("annotations", 0, {"image_id": [1]}, r"annotation 1 belongs to image \[1\]"),
        ("annotations", 0, {"category_id": 1}, "annotation 1 has the category 1, which is not in 'categories'"),
        ("annotations", 0, {"ignore": 1}, "annotation 1 is marked 'ignore'"),
        ("annotations", 0, {"bbox": []}, r"annotation 1 has the box \[\]"),
        ("annotations", 0, {"bbox": None}, "annotation 1 has the box None"),
        ("annotations", 0, {"bbox": [0, 0, -1, 2]}, r"annotation 1 has the box \[0, 0, -1, 2\]"),
        ("annotations", 0, {"bbox": [0, NAN, 1, 2]}, r"annotation 1 has the box \[0, nan, 1, 2\]"),
        ("annotations", 0, {"bbox": [0, 0, "1", 2]}, "annotation 1 has the box"),
        ("annotations", 0, {"bbox": [[0, 0, 1, 2]] * 4}, "annotation 1 has the box"),
        ("annotations", 0, {"segmentation": [0, 0, 2, 0, 2, 2]}, "annotation 1 has a segmentation that is neither"),
        ("annotations", 0, {"segmentation": [[0, 0, 2, 0, 2, None]]}, "annotation 1 has a segmentation that is"),
        ("annotations", 0, {"segmentation": [[0, 0, 2, 0, 2, INFINITY]]}, "annotation 1 has a segmentation that"),
        ("annotations", 0, {"segmentation": "mask.png"}, "annotation 1 has a segmentation that is neither"),
        ("annotations", 3, {"segmentation": {"size": [6, 4], "counts": [24]}}, r"a mask of size \[6, 4\]"),
        ("annotations", 3, {"segmentation": {"size": [4, 6], "counts": [23]}}, "a mask whose run lengths"),
        ("annotations", 3, {"segmentation": {"size": [4, 6]}}, "annotation 4 has a mask whose run lengths"),
    ],
)
def test_bad_entry(tmp_path, section, number, changes, problem):
    content = copy.deepcopy(GOOD)
    content[section][number] |= changes
    with pytest.raises(InputError, match=rf"annotations\.json: .*{problem}.*; correct the file"):
        check(tmp_path, content)


@pytest.mark.parametrize(
    "content, problem",
    [
        ([1], "its top level is a list"),
        (GOOD | {"images": {}}, "its field 'images' is not a list"),
        (GOOD | {"images": [], "annotations": []}, "it lists no images"),
        (GOOD | {"categories": [], "annotations": []}, "it lists no categories"),
        (GOOD | {"annotations": [3]}, "entry 1 of 'annotations' is not an object"),
    ],
)
def test_bad_structure(tmp_path, content, problem):
    with pytest.raises(InputError, match=problem):
        check(tmp_path, content)


def test_categories_of_another_data_set(tmp_path):
    with pytest.raises(InputError, match=r"its 2 categories \(cat, dog\) are not the 4 \(a, b, c, …\) that the data"):
        check(tmp_path, GOOD, class_names=["a", "b", "c", "d"])


def test_real_annotations_pass(real_coco):
    for split in ("train2017", "val2017"):
        read_annotation_file(real_coco / "annotations" / f"instances_{split}.json", is_train=True)
