"""Data sets in COCO's panoptic format: objects and classes of pixels from the PNGs, and what is wrong with them."""

import json
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as run_lengths

from convmae_det.config import add_convmae_config
from convmae_det.data.configuration import read_config
from convmae_det.data.detection.catalog import load_dataset_dicts
from convmae_det.data.detection.loader import build_train_loader, check_test_data
from convmae_det.data.detection.mapper import DetectionMapper
from convmae_det.data.detection.panoptic_format import adopt_panoptic, load_panoptic, register_panoptic
from convmae_det.data.detection.segments import colour_segments, label_pixels, read_segments
from convmae_det.data.shapes import write_shapes
from convmae_det.errors import InputError

# ids that are not in order: cat and dog are things 0 and 1, sky and grass stuff 2 and 1
CATEGORIES = [
    {"id": 40, "name": "dog", "isthing": 1},
    {"id": 7, "name": "sky", "isthing": 0},
    {"id": 12, "name": "cat", "isthing": 1},
    {"id": 3, "name": "grass", "isthing": 0},
]
SEGMENTS = [(1, 7), (300, 3), (70000, 40), (5, 12)]  # id, category
pytestmark = pytest.mark.usefixtures("catalog")


def draw_ids(height=48, width=60):
    ids = np.ones((height, width), np.int64)
    ids[20:] = 300
    ids[10:30, 5:25] = 70000
    ids[15:40, 30:50] = 5
    ids[:, -3:] = 0
    return ids


@pytest.fixture
def folder(tmp_path):
    """Two images, the second turned upside down, with their segments."""
    content = {"images": [], "annotations": [], "categories": CATEGORIES}
    for place in ("images", "pngs"):
        (tmp_path / place).mkdir()
    for number, ids in enumerate((draw_ids(), draw_ids()[::-1]), start=1):
        height, width = ids.shape
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / f"{number}.jpg")
        Image.fromarray(colour_segments(ids)).save(tmp_path / "pngs" / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
        segments = [{"id": segment, "category_id": category, "iscrowd": 0} for segment, category in SEGMENTS]
        entry = {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
        content["annotations"].append(entry)
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    return tmp_path


def list_entry(folder):
    return ["own", str(folder / "images"), str(folder / "panoptic.json"), str(folder / "pngs")]


def configure(folder, *options):
    pairs = {
        "MODEL.META_ARCHITECTURE": "PanopticFPN",
        "DATASETS.PANOPTIC": str([list_entry(folder)]),
        "DATASETS.TRAIN": "('own',)",
        "DATASETS.TEST": "('own',)",
        "DATALOADER.NUM_WORKERS": "0",
        "INPUT.MASK_FORMAT": "bitmask",
        "INPUT.LSJ.IMAGE_SIZE": "64",
        "SOLVER.IMS_PER_BATCH": "2",
        "SEED": "3",
    }
    return read_config("", [word for pair in pairs.items() for word in pair] + list(options))


def change(folder, alter):
    content = json.loads((folder / "panoptic.json").read_text())
    alter(content)
    (folder / "panoptic.json").write_text(json.dumps(content))


@given(ids=st.lists(st.integers(0, 256**3 - 1), min_size=1, max_size=8))
def test_ids_are_colours(ids, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "ids.png"
    Image.fromarray(colour_segments(np.array([ids]))).save(path)
    assert read_segments(str(path)).tolist() == [ids]


def test_classes_come_from_the_categories(folder):
    cfg = configure(folder)
    assert cfg.DATASETS.CATEGORIES == [[12, "cat"], [40, "dog"]]
    assert cfg.DATASETS.STUFF_CATEGORIES == [[3, "grass"], [7, "sky"]]
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2 and cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 3
    assert MetadataCatalog.get("own").stuff_classes == ["things", "grass", "sky"]


def test_objects_and_classes_come_from_the_pngs(folder):
    cfg, ids = configure(folder), draw_ids()
    images = load_dataset_dicts("own", is_train=True, cfg=cfg)
    assert [image["image_id"] for image in images] == [1, 2]
    dog, cat = images[0]["annotations"]
    assert (dog["category_id"], cat["category_id"]) == (1, 0) and dog["bbox"] == [5, 10, 20, 20]
    for annotation, number in ((dog, 70000), (cat, 5)):
        assert np.array_equal(run_lengths.decode(annotation["segmentation"]), ids == number)
    labels = label_pixels(ids, images[0]["segments_info"], 255)
    for number, label in ((0, 255), (1, 2), (300, 1), (70000, 0), (5, 0)):
        assert (labels[ids == number] == label).all()


def test_labels_stay_on_their_pixels_in_training(folder):
    """Wherever a crop has a thing's pixel, the semantic labels say 0, and nowhere else."""
    cfg = configure(folder, "INPUT.LSJ.MIN_SCALE", "0.5")
    mapper = DetectionMapper(cfg, True)
    np.random.seed(0)
    for image in load_dataset_dicts("own", is_train=True, cfg=cfg) * 3:
        sample = mapper(image)
        assert sample["sem_seg"].shape == sample["image"].shape[1:]
        things = sample["instances"].gt_masks.tensor.any(0) if len(sample["instances"]) else 0
        assert ((sample["sem_seg"] == 0) == things).all()
    batch = next(iter(build_train_loader(cfg)))
    assert {"sem_seg", "instances"} <= batch[0].keys()
    check_test_data(cfg)


def test_crowds_are_no_objects(folder):
    change(folder, lambda content: content["annotations"][0]["segments_info"][2].update(iscrowd=1))
    (image, _) = load_dataset_dicts("own", is_train=True, cfg=configure(folder))
    assert [annotation["iscrowd"] for annotation in image["annotations"]] == [1, 0]
    assert len(DetectionMapper(configure(folder, "INPUT.LSJ.ENABLED", "False"), True)(image)["instances"]) == 1


FAULTS = {
    "no isthing": (lambda c: c["categories"][1].pop("isthing"), r"category 7 \(sky\) has None as 'isthing'"),
    "no stuff": (lambda c: [x.update(isthing=1) for x in c["categories"]], "no category of stuff .* train a detector"),
    "no things": (lambda c: [x.update(isthing=0) for x in c["categories"]], "no category of things .* a segmentor"),
    "objects": (
        lambda c: c.update(annotations=[{"image_id": 1, "bbox": [0, 0, 1, 1]}]),
        r"has no field 'file_name': this is the file of objects",
    ),
    "twice": (lambda c: c["annotations"].append(c["annotations"][0]), "image 1 has 2 annotations"),
    "none": (lambda c: c["annotations"].pop(), r"image 2 \(2.jpg\) has no annotation \(1 of 2 images have none\)"),
    "unknown image": (lambda c: c["annotations"][0].update(image_id=9), "belongs to image 9, which is not in"),
    "outside": (lambda c: c["annotations"][0].update(file_name="../1.png"), "not in its folder"),
    "category": (lambda c: c["annotations"][0]["segments_info"][0].update(category_id=8), "1 of the category 8"),
    "zero": (lambda c: c["annotations"][0]["segments_info"][0].update(id=0), "with the id 0, which is not"),
    "same id": (
        lambda c: c["annotations"][0]["segments_info"][0].update(id=5),
        "two segments of image 1 have the id 5",
    ),
    "missing in JSON": (
        lambda c: c["annotations"][1]["segments_info"].pop(1),
        r"2.png holds pixels of the segment 300, which its annotation doesn't list",
    ),
    "missing in PNG": (
        lambda c: c["annotations"][1]["segments_info"].append({"id": 44, "category_id": 7}),
        r"2.png holds no pixel of the segment 44, which its annotation lists",
    ),
    "size": (lambda c: c["images"][0].update(width=61), r"1.png is 60×48 pixels, but its image is 61×48"),
    "no PNG": (
        lambda c: c["annotations"][0].update(file_name="3.png"),
        r"3.png, the segments of .*1.jpg, doesn't exist",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_before_training(folder, fault):
    alter, sentence = FAULTS[fault]
    change(folder, alter)
    with pytest.raises(InputError, match=sentence) as caught:
        load_dataset_dicts("own", is_train=True, cfg=configure(folder))
    assert str(folder) in str(caught.value)


def test_a_picture_without_colours_holds_no_segments(folder):
    Image.fromarray(draw_ids().astype(np.uint8)).save(folder / "pngs/2.png")
    with pytest.raises(InputError, match=r"2.png holds no segments, but a picture in L: save"):
        load_dataset_dicts("own", is_train=True, cfg=configure(folder))


def test_an_image_of_another_size_is_named(folder):
    Image.new("RGB", (30, 20)).save(folder / "images/2.jpg")
    with pytest.raises(InputError, match=r"2.jpg is 30×20 pixels, but its segments in .*2.png are 60×48"):
        load_dataset_dicts("own", is_train=True, cfg=configure(folder))


@pytest.mark.parametrize("place, what", [(1, "folder of images"), (2, "annotation file"), (3, "folder of PNGs")])
def test_what_is_not_there_is_named(folder, place, what):
    entry = list_entry(folder)
    entry[place] = str(folder / "nowhere")
    with pytest.raises(InputError, match=rf"nowhere, the {what} of own in DATASETS.PANOPTIC, doesn't exist"):
        register_panoptic([entry])
    register_panoptic([entry], missing_ok=True)
    for wrong in (entry[:3], [*entry[:3], 4], "own"):
        with pytest.raises(InputError, match=r"^DATASETS.PANOPTIC holds .*: make it \[\[name, image folder"):
            register_panoptic([wrong])


def test_the_example_makes_the_segments_of_annotated_objects(tmp_path, capsys):
    """Of the drawn shapes, whose annotations describe what is seen, it makes what they come with."""
    write_shapes(tmp_path / "shapes", train=1, val=3, size=64)
    script = runpy.run_path(str(Path(__file__).parents[3] / "examples/segments_of_objects.py"))
    script["main"](str(tmp_path / "shapes/annotations/instances_val.json"), str(tmp_path / "made"))
    for number in (1, 2, 3):
        name = f"{number:012d}.png"
        masks = [np.asarray(Image.open(tmp_path / place / name)) for place in ("made/masks", "shapes/masks/val")]
        assert np.array_equal(*masks)
    images = [str(tmp_path / "shapes/val")] * 2
    files = [str(tmp_path / path) for path in ("made/panoptic.json", "shapes/annotations/panoptic_val.json")]
    pngs = [str(tmp_path / path) for path in ("made/panoptic", "shapes/panoptic/val")]
    made, theirs = (load_panoptic(file, root, png, None) for file, root, png in zip(files, images, pngs, strict=True))
    for ours, other in zip(made, theirs, strict=True):
        objects = [sorted(image["annotations"], key=lambda entry: entry["bbox"]) for image in (ours, other)]
        assert objects[0] == objects[1]


def test_a_data_set_of_detectron2_is_read_in_the_same_way(folder):
    metadata = {
        "thing_dataset_id_to_contiguous_id": {12: 0, 40: 1},
        "stuff_dataset_id_to_contiguous_id": {3: 2, 7: 3},
        "thing_classes": ["cat", "dog", "grass", "sky"],
    }
    paths = [str(folder / "images"), str(folder / "pngs"), str(folder / "panoptic.json")]
    register_coco_panoptic("theirs", metadata, *paths)
    adopt_panoptic(["theirs", "unknown"])
    register_panoptic([list_entry(folder)])
    assert DatasetCatalog.get("theirs") == DatasetCatalog.get("own")
    for key in ("thing_classes", "stuff_classes"):
        assert MetadataCatalog.get("theirs").get(key) == MetadataCatalog.get("own").get(key)
    cfg = get_cfg()
    add_convmae_config(cfg)
    assert not os.path.exists(MetadataCatalog.get("coco_2017_val_panoptic").panoptic_json)
    adopt_panoptic(["coco_2017_val_panoptic"])  # whose files aren't here
    assert not MetadataCatalog.get("coco_2017_val_panoptic").get("panoptic_format")
