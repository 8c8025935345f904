"""Data sets that can't be used are named before training starts."""

import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from convmae_det.data.detection import catalog
from convmae_det.data.detection.catalog import check_classes, load_dataset_dicts
from convmae_det.errors import InputError


def remove_objects(content, keep=0):
    content["annotations"] = content["annotations"][:keep]


@pytest.mark.parametrize("is_train", [True, False])
def test_good_data_set(cfg, register, is_train):
    register(count=3)
    dicts = load_dataset_dicts("mini", is_train=is_train, cfg=cfg)
    assert [image["image_id"] for image in dicts] == [1, 2, 3]
    assert all(Image.open(image["file_name"]).size == (image["width"], image["height"]) for image in dicts)
    # ids 7 and 90 become 0 and 1
    assert [[object["category_id"] for object in image["annotations"]] for image in dicts] == [[0, 1]] * 3


def test_images_without_objects_are_left_out_in_training_alone(cfg, register):
    register(lambda content: remove_objects(content, keep=3))
    assert len(load_dataset_dicts(["mini"], is_train=True, cfg=cfg)) == 2
    assert len(load_dataset_dicts(["mini"], is_train=False, cfg=cfg)) == 4
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert len(load_dataset_dicts(["mini"], is_train=True, cfg=cfg)) == 4


def crowd(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


@pytest.mark.parametrize(
    "change, problem",
    [
        (remove_objects, "No image of mini has an object: annotate some"),
        (crowd, r"All 8 annotations of mini are crowds .* set DATASETS\.CROWD_AS_OBJECTS True"),
    ],
)
@pytest.mark.parametrize("filtered", [True, False])
def test_no_objects_at_all(cfg, register, change, problem, filtered):
    register(change)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = filtered
    with pytest.raises(InputError, match=problem):
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)
    assert len(load_dataset_dicts(["mini"], is_train=False, cfg=cfg)) == 4


def test_crowds_are_objects_where_asked(cfg, register):
    """As masks of CVAT's brush are."""
    register(crowd)
    cfg.DATASETS.CROWD_AS_OBJECTS = True
    for is_train in (True, False):
        dicts = load_dataset_dicts(["mini"], is_train=is_train, cfg=cfg)
        assert [annotation["iscrowd"] for image in dicts for annotation in image["annotations"]] == [0] * 8


@pytest.mark.parametrize(
    "key, value, problem",
    [
        ("MODEL.KEYPOINT_ON", True, "be False for mini, which isn't registered with names of keypoints"),
        ("MODEL.META_ARCHITECTURE", "PanopticFPN", "be GeneralizedRCNN or RetinaNet for mini, which has no class for"),
    ],
)
def test_what_the_data_do_not_have_is_named(cfg, register, key, value, problem):
    register()
    cfg.merge_from_list([key, value])
    with pytest.raises(InputError, match=f"{key} is {value!r}; it must {problem}"):
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)


def test_unknown_name_with_and_without_near_ones(cfg):
    with pytest.raises(InputError, match="'coco_2017_trian' is not registered: did you mean coco_2017_train or "):
        load_dataset_dicts(["coco_2017_trian"], is_train=True, cfg=cfg)
    with pytest.raises(InputError, match="'x' is not registered: register it, or choose another"):
        load_dataset_dicts("x", is_train=True, cfg=cfg)


@pytest.mark.parametrize("is_train, key", [(True, "DATASETS.TRAIN"), (False, "DATASETS.TEST")])
def test_no_name(cfg, is_train, key):
    with pytest.raises(InputError, match=rf"{key} is \[\]; it must name"):
        load_dataset_dicts((), is_train=is_train, cfg=cfg)


def test_missing_annotation_file_of_ones_own(cfg, register, tmp_path):
    register()
    (tmp_path / "annotations.json").unlink()
    with pytest.raises(InputError, match=r"annotations\.json, the annotation file of .* mini, doesn't exist: register"):
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)


@pytest.mark.parametrize("variable", ["set", "unset"])
def test_missing_file_in_the_common_folder_says_how_to_set_that(cfg, register, tmp_path, monkeypatch, variable):
    monkeypatch.chdir(tmp_path)
    if variable == "set":
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
        root, state = tmp_path, str(tmp_path)
    else:
        monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
        root, state = "datasets", "not set, which means ./datasets"
    path = f"{root}/coco/annotations/instances_mini.json"
    register(json_file=path)
    with pytest.raises(InputError) as caught:
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)
    assert str(caught.value) == (
        f"{path}, the annotation file of the data set mini, doesn't exist: put it there, or set the environment "
        f"variable DETECTRON2_DATASETS to the folder that holds coco/annotations/instances_mini.json (it is {state})."
    )


def test_missing_image_folder(cfg, register, tmp_path):
    register()
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="images, the folder of the data set mini, doesn't exist: register"):
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)


def test_missing_images_are_counted(cfg, register, tmp_path):
    register()
    for name in ("1.png", "3.png"):
        (tmp_path / "images" / name).unlink()
    with pytest.raises(InputError, match=r"images/1\.png doesn't exist \(2 of the 4 images of mini are missing\)"):
        load_dataset_dicts(["mini"], is_train=False, cfg=cfg)


def test_images_in_subfolders(cfg, register, tmp_path):
    def move(content):
        for image in content["images"][:2]:
            target = tmp_path / "images" / "some" / str(image["id"]) / image["file_name"]
            target.parent.mkdir(parents=True)
            (tmp_path / "images" / image["file_name"]).rename(target)
            image["file_name"] = str(target.relative_to(tmp_path / "images"))
        content["images"][3]["file_name"] = "none/3.png"

    register(move)
    with pytest.raises(InputError, match=r"images/none/3\.png doesn't exist \(1 of the 4 images"):
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)


def orphan(content):
    content["annotations"][5]["image_id"] = 77


def unknown_category(content):
    content["annotations"][5]["category_id"] = 8


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"text": "{"}, r"annotations\.json is not JSON"),
        ({"change": lambda content: content.pop("images")}, "has no field 'images'"),
        ({"change": lambda content: content["images"][1].pop("width")}, r"entry 2 of 'images' \(id 2\) has no field"),
        ({"change": unknown_category}, "annotation 6 has the category 8, which is not in 'categories'"),
    ],
)
@pytest.mark.parametrize("checked_first", [0, 2**26])
def test_bad_annotation_file(cfg, register, monkeypatch, options, problem, checked_first):
    """Large files are looked into as well, once loading them has failed."""
    monkeypatch.setattr(catalog, "CHECKED_FIRST", checked_first)
    register(**options)
    with pytest.raises(InputError, match=problem):
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)


def test_annotation_of_an_unknown_image(cfg, register):
    register(orphan)
    with pytest.raises(InputError, match="annotation 6 belongs to image 77, which is not in 'images'"):
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)


def test_an_error_that_is_not_the_files_is_kept(cfg, register, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    register()
    monkeypatch.setattr(catalog, "describe_images", broken)
    with pytest.raises(ZeroDivisionError):
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)


def without_mask(content):
    del content["annotations"][3]["segmentation"]


def with_run_lengths(content):
    image = content["images"][1]
    pixels = image["height"] * image["width"]
    content["annotations"][3]["segmentation"] = {
        "size": [image["height"], image["width"]],
        "counts": [99, 50, pixels - 149],
    }


@pytest.mark.parametrize(
    "change, problem, key, value",
    [
        (without_mask, "has no mask: add it, or train without masks by", "MODEL.MASK_ON", False),
        (with_run_lengths, "has a mask in run lengths, not polygons: set", "INPUT.MASK_FORMAT", "bitmask"),
    ],
)
def test_masks_must_be_what_the_model_takes(cfg, register, change, problem, key, value):
    register(change)
    with pytest.raises(InputError, match=rf"An object of .*/1\.png \(box .*\) {problem} {key} {value}"):
        load_dataset_dicts(["mini"], is_train=True, cfg=cfg)
    cfg.merge_from_list([key, value])
    for is_train in (True, False):
        assert len(load_dataset_dicts(["mini"], is_train=is_train, cfg=cfg)) == 4


@pytest.mark.parametrize("architecture, node", [("GeneralizedRCNN", "ROI_HEADS"), ("RetinaNet", "RETINANET")])
@pytest.mark.parametrize("classes", [1, 3])
def test_number_of_classes_must_fit(cfg, register, architecture, node, classes):
    register()
    load_dataset_dicts(["mini"], is_train=True, cfg=cfg)
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL[node].NUM_CLASSES = 2
    check_classes(cfg, ["mini"])
    cfg.MODEL[node].NUM_CLASSES = classes
    key = f"MODEL.{node}.NUM_CLASSES"
    with pytest.raises(InputError, match=f"{key} is {classes}, but .* mini has 2 categories: set {key} 2."):
        check_classes(cfg, ["mini"])


def test_data_sets_without_a_file_pass_through(cfg, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    images = [{"file_name": str(tmp_path / "a.png"), "image_id": 0, "height": 8, "width": 8}]
    DatasetCatalog.register("plain", lambda: images)
    try:
        assert load_dataset_dicts(["plain"], is_train=True, cfg=cfg) == images
    finally:
        DatasetCatalog.remove("plain")
