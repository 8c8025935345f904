"""Whatever a tool writes in its own way means the same; what could mean two things stays as it is."""

import copy
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convmae_det.data.detection.variants import (
    convert_whole_number,
    distinguish_names,
    is_outside_folder,
    unify_content,
)

PLAIN = {
    "images": [{"id": 3, "file_name": "in/a.png", "height": 40, "width": 60}],
    "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
    "annotations": [
        {"id": 5, "image_id": 3, "category_id": 7, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        {"id": 6, "image_id": 3, "category_id": 8, "bbox": [1, 2, 3, 4], "iscrowd": 1},
    ],
}
PLAIN["annotations"][1]["segmentation"] = {"size": [40, 60], "counts": [2400]}

numbers = st.sampled_from([lambda x: x, float, str, lambda x: f"{x}.0"])


@given(st.data())
def test_numbers_are_written_in_many_ways(data):
    content = copy.deepcopy(PLAIN)
    write = lambda entry, field, ways=numbers: entry.update({field: data.draw(ways)(entry[field])})  # noqa: E731
    for image in content["images"]:
        write(image, "height"), write(image, "width")
        write(image, "id", st.sampled_from([lambda x: x, float]))
    for category in content["categories"]:
        write(category, "id")
    for annotation in content["annotations"]:
        write(annotation, "category_id"), write(annotation, "iscrowd")
        write(annotation, "image_id", st.sampled_from([lambda x: x, float, str]))
    size = content["annotations"][1]["segmentation"]
    size["size"] = [data.draw(numbers)(side) for side in size["size"]]
    if data.draw(st.booleans()):
        del content["annotations"][0]["iscrowd"]
    unify_content(content)
    assert content == PLAIN
    assert all(type(x) is int for image in content["images"] for x in (image["id"], image["height"], image["width"]))


@pytest.mark.parametrize("value", ["", "one", "1.5", "1e3", "１", 1.5, float("nan"), float("inf"), None, True, [1]])
def test_what_is_no_whole_number_stays(value):
    found = convert_whole_number(value)
    assert found is value


def test_text_stays_the_id_of_an_image_and_is_found_by_number():
    content = {"images": [{"id": "7"}, {"id": "x"}], "annotations": [{"image_id": 7}, {"image_id": "x"}]}
    unify_content(content)
    assert [image["id"] for image in content["images"]] == ["7", "x"]
    assert [annotation["image_id"] for annotation in content["annotations"]] == ["7", "x"]


def test_a_number_and_its_text_are_two_images():
    content = {"images": [{"id": "7"}, {"id": 7}], "annotations": [{"image_id": 7}, {"image_id": "7"}]}
    unify_content(content)
    assert [annotation["image_id"] for annotation in content["annotations"]] == [7, "7"]


@given(st.lists(st.tuples(st.integers(0, 50), st.text("ab() 01", max_size=7)), unique_by=lambda pair: pair[0]))
def test_names_become_different_and_unique_ones_stay(categories):
    names = distinguish_names(categories)
    assert len(set(names)) == len(names) == len(categories)
    originals = [name for _, name in categories]
    assert all(new.startswith(old) for new, old in zip(names, originals, strict=True))
    if len(set(originals)) == len(originals):
        assert names == originals


def test_classes_of_one_name_are_told_apart_by_id_and_digits_are_names():
    content = {"categories": [{"id": "1", "name": "box"}, {"id": 2, "name": 9}, {"id": 3.0, "name": "box"}]}
    unify_content(content)
    assert content["categories"] == [{"id": 1, "name": "box (1)"}, {"id": 2, "name": "9"}, {"id": 3, "name": "box (3)"}]


def unify_name(name, root=None):
    content = {"images": [{"file_name": name}]}
    unify_content(content, root)
    return content["images"][0]["file_name"]


def test_paths(tmp_path):
    root = tmp_path / "images"
    (root / "in").mkdir(parents=True)
    (root / "in/a.png").touch()
    (root / "odd\\name.png").touch()
    (tmp_path / "link").symlink_to(root)
    for name in ("in\\a.png", str(root / "in/a.png"), str(tmp_path / "link/in/a.png"), "in/a.png"):
        assert unify_name(name, str(root)) == "in/a.png"
    assert unify_name("in\\a.png") == "in/a.png"
    assert unify_name("odd\\name.png", str(root)) == "odd\\name.png"
    outside = str(tmp_path / "other/a.png")
    assert unify_name(outside, str(root)) == outside and is_outside_folder(outside)
    assert os.path.isabs(unify_name(str(root / "in/a.png")))


@pytest.mark.parametrize("name", ["C:\\images\\a.png", "..\\a.png", "in/../../a.png", "/a.png", "\\\\server\\x\\a.png"])
def test_names_outside_the_folder(name):
    assert is_outside_folder(unify_name(name, "/images"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "image_id"]), inner),
    max_leaves=9,
)


@given(json_values | st.dictionaries(st.sampled_from(["images", "categories", "annotations"]), json_values))
def test_no_content_is_a_failure(content):
    unify_content(content, "/images")
