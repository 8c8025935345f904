"""Data sets that the configuration names: registered once, with the ids and names of their categories."""

import json
import os
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from hypothesis import given
from hypothesis import strategies as st

from convmae_det.data.detection import categories
from convmae_det.data.detection.catalog import list_image_names, load_dataset_dicts
from convmae_det.data.detection.categories import find_categories, read_categories
from convmae_det.data.detection.coco_format import describe_images, load_coco_format, register_coco_format
from convmae_det.data.shapes import write_shapes
from convmae_det.errors import InputError

pytestmark = pytest.mark.usefixtures("catalog")


@pytest.fixture
def paths(write_coco):
    return write_coco()


def edit(path, change):
    content = json.loads(Path(path).read_text())
    change(content)
    with open(path, "w") as file:
        json.dump(content, file)


def rename(content):
    content["categories"] = [{"id": 90, "name": "zebra"}, {"id": 7, "name": "ant"}, {"id": 20, "name": "cow"}]


def test_categories_are_known_before_the_data_set_is_loaded(cfg, paths):
    edit(paths[0], rename)
    register_coco_format([["mine", *paths]])
    assert find_categories("mine") == [[7, "ant"], [20, "cow"], [90, "zebra"]]
    metadata = MetadataCatalog.get("mine")
    assert metadata.thing_classes == ["ant", "cow", "zebra"]
    assert metadata.thing_dataset_id_to_contiguous_id == {7: 0, 20: 1, 90: 2}
    cfg.DATASETS.COCO_FORMAT = [["mine", *paths]]
    dicts = load_dataset_dicts(
        "mine", is_train=True, cfg=cfg
    )  # Detectron2 finds the same, else its metadata would protest
    assert [[object["category_id"] for object in image["annotations"]] for image in dicts] == [[0, 2]] * 4


def test_entries_are_registered_where_they_are_used(cfg, paths):
    """As in a process that Detectron2 starts for a GPU of its own."""
    cfg.DATASETS.COCO_FORMAT = [["other", "nowhere.json", "nowhere"], ["mine", *paths]]
    assert len(load_dataset_dicts("mine", is_train=True, cfg=cfg)) == 4
    with pytest.raises(InputError, match="nowhere.json, the annotation file of other in DATASETS.COCO_FORMAT, doesn't"):
        load_dataset_dicts("other", is_train=True, cfg=cfg)


def test_the_file_is_read_once(paths, monkeypatch):
    categories._search_categories.cache_clear()
    for _ in range(3):
        register_coco_format([["mine", *paths], ["again", *paths]])
    assert categories._search_categories.cache_info().misses == 1


def test_a_changed_entry_or_file_replaces_the_earlier_one(paths, tmp_path):
    register_coco_format([["mine", *paths]])
    edit(paths[0], rename)
    register_coco_format([["mine", *paths]])
    assert MetadataCatalog.get("mine").thing_classes == ["ant", "cow", "zebra"]
    (tmp_path / "other").mkdir()
    register_coco_format([["mine", paths[0], str(tmp_path / "other")]])
    assert MetadataCatalog.get("mine").image_root == str(tmp_path / "other")


def test_paths_are_relative_to_the_working_directory(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    register_coco_format([["mine", *(os.path.relpath(path) for path in paths)]])
    assert MetadataCatalog.get("mine").json_file == paths[0]


@pytest.mark.parametrize(
    "entry", ["mine", ["mine", "a.json"], ["mine", "a.json", 3], ["", "a.json", "b"], [[], "a", "b"]]
)
def test_what_is_no_triple_is_named(entry):
    with pytest.raises(InputError, match=r"COCO_FORMAT holds .*: make it a list of triples"):
        register_coco_format([entry])


def test_missing_files_are_named_or_passed_over(paths):
    wrong = [["file", paths[0] + "x", paths[1]], ["folder", paths[0], paths[1] + "x"], ["swapped", *paths[::-1]]]
    for entry in wrong:
        with pytest.raises(InputError, match=f"{entry[0]} in DATASETS.COCO_FORMAT, doesn't exist"):
            register_coco_format([entry])
    register_coco_format([*wrong, ["mine", *paths]], missing_ok=True)
    assert "mine" in DatasetCatalog and not {"file", "folder", "swapped"} & set(DatasetCatalog)


def test_names_are_used_once(paths):
    with pytest.raises(InputError, match="names mine twice"):
        register_coco_format([["mine", *paths], ["mine", *paths]])
    with pytest.raises(InputError, match="coco_2017_val in DATASETS.COCO_FORMAT belongs to another data set"):
        register_coco_format([["coco_2017_val", *paths]])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
entries = st.lists(st.tuples(st.integers(0, 99), st.text()), max_size=5, unique_by=lambda pair: pair[0])


@given(entries, st.dictionaries(st.text() | st.just("categories"), json_values, max_size=3), st.sampled_from([None, 2]))
def test_categories_are_found_wherever_they_stand(tmp_path_factory, pairs, others, indent):
    """Also beside a field of the same name further inside."""
    wanted = {"categories": [{"name": name, "id": number} for number, name in pairs]}
    path = tmp_path_factory.getbasetemp() / "any.json"
    for content in ({"images": [others], **wanted}, {**wanted, "images": [others]}):
        for ascii in (False, True):
            path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii), "utf-8", "surrogatepass")
            categories._search_categories.cache_clear()
            found = read_categories(path)
            assert [number for number, _ in found] == sorted(number for number, _ in pairs)
            names = [name for _, name in sorted(pairs)]
            assert [name for _, name in found] == names or len(set(names)) < len(names) == len({x for _, x in found})


def test_categories_longer_than_the_first_look(tmp_path, monkeypatch):
    monkeypatch.setattr(categories, "FIRST_LOOK", 5)
    path = tmp_path / "any.json"
    path.write_text(json.dumps({"categories": [{"id": i, "name": f"né{i}"} for i in range(50)]}, ensure_ascii=False))
    assert len(read_categories(path)) == 50


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"categories": ',
        '{"categories": 3}',
        '{"categories": [{"id": 1}]}',
        '{"categories": [{"id": 1.5}]}',
    ]
    + ['{"categories": [], "categories": {}', '{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}'],
)
def test_a_bad_file_has_none_and_is_named_when_it_is_loaded(cfg, paths, text):
    with open(paths[0], "w") as file:
        file.write(text)
    cfg.DATASETS.COCO_FORMAT = [["mine", *paths]]
    register_coco_format(cfg.DATASETS.COCO_FORMAT)
    assert find_categories("mine") == []
    with pytest.raises(InputError, match="annotations.json"):
        load_dataset_dicts("mine", is_train=True, cfg=cfg)


def test_images_alone_are_enough_to_pretrain_on(cfg, paths):
    def keep_images(content):
        del content["categories"], content["annotations"]

    edit(paths[0], keep_images)
    cfg.DATASETS.COCO_FORMAT = [["mine", *paths]]
    assert list_image_names("mine", cfg) == [os.path.join(paths[1], f"{i}.png") for i in range(4)]
    os.remove(os.path.join(paths[1], "2.png"))
    with pytest.raises(InputError, match=r"2\.png doesn't exist \(1 of the 4 images of mine"):
        list_image_names("mine", cfg)
    edit(paths[0], lambda content: content["images"].clear())
    with pytest.raises(InputError, match="it lists no images"):
        list_image_names("mine", cfg)


def test_data_sets_of_others_have_categories_too(register):
    assert len(find_categories("coco_2017_train")) == 80 and find_categories("coco_2017_train")[-1] == [
        90,
        "toothbrush",
    ]
    assert find_categories("shapes_train") == [[1, "ellipse"], [2, "rectangle"], [3, "triangle"], [4, "star"]]
    register()
    assert find_categories("mini") == [[7, "class 7"], [90, "class 90"]]  # registered in Python, not loaded yet
    assert find_categories("unheard of") == []


@pytest.mark.parametrize("source", ["shapes", "val2017", "train2017"])
def test_images_are_described_as_detectron2_does(source, request, tmp_path):
    if source == "shapes":
        write_shapes(tmp_path, train=3, val=1, size=64)
        path, root = tmp_path / "annotations/instances_train.json", tmp_path / "train"
    else:
        coco = request.getfixturevalue("real_coco")
        path, root = coco / f"annotations/instances_{source}.json", coco / source
    ours, theirs = load_coco_format(str(path), str(root), "ours"), load_coco_json(str(path), str(root), "theirs")
    for image in theirs:
        for annotation in image["annotations"]:
            annotation.setdefault("iscrowd", 0)
    assert ours == theirs
    for key in ("thing_classes", "thing_dataset_id_to_contiguous_id"):
        assert MetadataCatalog.get("ours").get(key) == MetadataCatalog.get("theirs").get(key)
    for name in ("ours", "theirs"):
        MetadataCatalog.pop(name)


def describe(content, masks=True):
    return describe_images(content, "/images", masks=masks)


def test_keypoints_and_outlines_of_two_corners():
    image = {"id": 1, "file_name": "a.png", "height": 9, "width": 9}
    point = {"image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2], "iscrowd": 0}
    content = {"images": [image], "categories": [{"id": 3, "name": "x"}]}
    content["annotations"] = [point | {"keypoints": [4, 5, 2]}, point | {"segmentation": [[1, 1, 2, 2]]}]
    (found,) = describe(content)
    assert [annotation.get("keypoints") for annotation in found["annotations"]] == [[4.5, 5.5, 2]]
    (found,) = describe(content, masks=False)
    assert len(found["annotations"]) == 2 and not any("segmentation" in a for a in found["annotations"])
    del content["annotations"]
    assert "annotations" not in describe(content)[0]


def windows(content):
    for image in content["images"]:
        image["file_name"] = f"images\\{image['file_name']}"


def mark_bytes(text):
    return text.encode("utf-8-sig")


def write_utf16(text):
    return text.encode("utf-16")


@pytest.mark.parametrize("encode", [str.encode, mark_bytes, write_utf16])
def test_byte_order_marks_are_read(cfg, paths, encode):
    edit(paths[0], rename)
    text = Path(paths[0]).read_text()
    Path(paths[0]).write_bytes(encode(text))
    cfg.DATASETS.COCO_FORMAT = [["mine", *paths]]
    assert read_categories(paths[0]) == [[7, "ant"], [20, "cow"], [90, "zebra"]]
    assert len(load_dataset_dicts("mine", is_train=True, cfg=cfg)) == 4


@pytest.mark.parametrize("registered", ["in the configuration", "by Detectron2"])
def test_paths_of_other_systems(cfg, paths, tmp_path, registered):
    edit(paths[0], windows)
    if registered == "by Detectron2":
        register_coco_instances("mine", {}, paths[0], str(tmp_path))
    else:
        cfg.DATASETS.COCO_FORMAT = [["mine", paths[0], str(tmp_path)]]
    dicts = load_dataset_dicts("mine", is_train=True, cfg=cfg)
    assert [image["file_name"] for image in dicts] == [os.path.join(paths[1], f"{i}.png") for i in range(4)]


def test_ids_come_back_as_they_were(cfg, paths):
    def change(content):
        for entry in content["images"]:
            entry["id"] = f"image-{entry['id']}"
        for entry in content["annotations"]:
            entry["image_id"], entry["id"] = f"image-{entry['image_id']}", f"ann-{entry['id']}"

    edit(paths[0], change)
    cfg.DATASETS.COCO_FORMAT = [["mine", *paths]]
    dicts = load_dataset_dicts("mine", is_train=True, cfg=cfg)
    assert [image["image_id"] for image in dicts] == [f"image-{i}" for i in (1, 2, 3, 4)]


def test_classes_of_one_name_stay_apart(cfg, paths):
    def change(content):
        content["categories"] = [{"id": 7, "name": "box"}, {"id": 90, "name": "box"}]

    edit(paths[0], change)
    cfg.DATASETS.COCO_FORMAT = [["mine", *paths]]
    register_coco_format(cfg.DATASETS.COCO_FORMAT)
    assert find_categories("mine") == [[7, "box (7)"], [90, "box (90)"]]
    assert len(load_dataset_dicts("mine", is_train=True, cfg=cfg)) == 4
    assert MetadataCatalog.get("mine").thing_classes == ["box (7)", "box (90)"]
