"""The drawn data set: the same every time, in COCO's layout, with polygons that match the visible pixels."""

import contextlib
import io
import json
import os
from collections import Counter

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures.masks import polygons_to_bitmask
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools.coco import COCO

from convmae_det.data.detection.segments import read_segments
from convmae_det.data.shape_drawing import (
    CATEGORIES,
    MIN_VISIBLE_AREA,
    MIN_VISIBLE_FRACTION,
    OBJECTS,
    draw_background,
    draw_image,
)
from convmae_det.data.shapes import (
    RANGES,
    SPLITS,
    VERSION,
    register_shapes,
    trace_visible_polygons,
    write_shapes,
)
from convmae_det.errors import InputError

SMALL = {"train": 3, "val": 2, "size": 64}
DRAWN = {"train": 24, "val": 6, "size": 96, "seed": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, **DRAWN)
    return folder


@pytest.fixture
def catalogs():
    """Detectron2's catalogs are global: leave them as they were."""
    before = {name: DatasetCatalog.pop(name) for name in list(DatasetCatalog) if name.startswith("shapes_")}
    metadata = {name: MetadataCatalog.pop(name) for name in before}
    yield
    for split in SPLITS:
        DatasetCatalog.pop(f"shapes_{split}", None)
        MetadataCatalog.pop(f"shapes_{split}", None)
    DatasetCatalog.update(before)
    MetadataCatalog.update(metadata)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def annotations(root, split="train"):
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def draw(seed, size, objects=OBJECTS):
    """An image, its shapes, and the share of each pixel in which each shape is on top, (shapes, size, size)."""
    image, shapes, patches = draw_image(np.random.default_rng(seed), size, objects)
    coverage = np.zeros((len(shapes), size, size))
    for share, patch in zip(coverage, patches, strict=True):
        share[patch.place] = patch.share
    return image, shapes, coverage


def drawings(count=40, size=128, objects=OBJECTS):
    return [draw((11, 0, i), size, objects) for i in range(count)]


def test_layout(root):
    expected = {f"annotations/instances_{split}.json" for split in SPLITS}
    names = [f"{split}/{i:012d}.png" for split in SPLITS for i in range(1, DRAWN[split] + 1)]
    expected |= {f"annotations/panoptic_{split}.json" for split in SPLITS}
    expected |= {f"{folder}{name}" for name in names for folder in ("", "masks/", "panoptic/")}
    assert set(files(root)) == expected
    assert list(root.parent.iterdir()) == [root]  # no temporary folder stays


def test_same_arguments_give_the_same_bytes(root, tmp_path):
    write_shapes(tmp_path / "again", **DRAWN)
    assert files(tmp_path / "again") == files(root)


def test_an_image_does_not_depend_on_how_many_there_are(root, tmp_path):
    write_shapes(tmp_path / "fewer", **{**DRAWN, "train": 4, "val": 1})
    ours, theirs = files(tmp_path / "fewer"), files(root)
    assert all(ours[name] == theirs[name] for name in ours if name.endswith(".png"))


def test_all_images_differ_between_and_within_splits_and_seeds(root, tmp_path):
    write_shapes(tmp_path / "other", **{**DRAWN, "seed": DRAWN["seed"] + 1})
    pixels = [
        np.asarray(Image.open(path)).tobytes()
        for folder in (root, tmp_path / "other")
        for split in SPLITS
        for path in (folder / split).glob("*.png")
    ]
    assert len(pixels) == 2 * (DRAWN["train"] + DRAWN["val"]) == len(set(pixels))


def test_masks_hold_the_classes_of_the_annotated_shapes(root):
    for image in annotations(root)["images"]:
        mask = np.asarray(Image.open(root / "masks" / "train" / image["file_name"]))
        areas = Counter()
        for annotation in annotations(root)["annotations"]:
            if annotation["image_id"] == image["id"]:
                areas[annotation["category_id"]] += annotation["area"]
        assert Counter(mask[mask > 0].tolist()) == areas


@pytest.mark.parametrize("split", SPLITS)
def test_segments_are_the_annotated_shapes_and_the_background(root, catalogs, split):
    register_shapes(root)
    for image, same in zip(
        DatasetCatalog.get(f"shapes_panoptic_{split}"), DatasetCatalog.get(f"shapes_{split}"), strict=True
    ):
        ids = read_segments(image["pan_seg_file_name"])
        boxes = [(annotation["category_id"], annotation["bbox"]) for annotation in image["annotations"]]
        assert boxes == [(annotation["category_id"], annotation["bbox"]) for annotation in same["annotations"]]
        mask = np.asarray(Image.open(root / "masks" / split / os.path.basename(image["file_name"])))
        (background,) = [segment["id"] for segment in image["segments_info"] if not segment["isthing"]]
        assert np.array_equal(ids == background, mask == 0)


@pytest.mark.parametrize("split", SPLITS)
def test_annotations_read_by_pycocotools(root, split):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(root / "annotations" / f"instances_{split}.json")
    assert {"info", "licenses", "images", "annotations", "categories"} <= coco.dataset.keys()
    assert [category["name"] for category in coco.loadCats(sorted(coco.cats))] == list(CATEGORIES)
    assert sorted(coco.cats) == list(range(1, len(CATEGORIES) + 1))
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    for image in coco.imgs.values():
        with Image.open(root / split / image["file_name"]) as picture:
            assert (picture.size, picture.mode) == ((image["width"], image["height"]), "RGB")
        assert 1 <= len(coco.imgToAnns[image["id"]]) <= OBJECTS[1]
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        y, x = np.nonzero(mask)
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
        assert annotation["iscrowd"] == 0 and annotation["category_id"] in coco.cats


def test_detectron2_loads_the_registered_splits(root, catalogs):
    register_shapes(root)
    for split in SPLITS:
        records = DatasetCatalog.get(f"shapes_{split}")
        assert len(records) == DRAWN[split]
        assert sum(len(record["annotations"]) for record in records) == len(annotations(root, split)["annotations"])
        assert {a["category_id"] for record in records for a in record["annotations"]} <= set(range(len(CATEGORIES)))
        assert MetadataCatalog.get(f"shapes_{split}").thing_classes == list(CATEGORIES)


def test_registration_is_idempotent_and_follows_the_environment(tmp_path, catalogs, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "first"))
    register_shapes()
    metadata = MetadataCatalog.get("shapes_train")
    register_shapes()
    assert MetadataCatalog.get("shapes_train") is metadata
    assert metadata.image_root == str(tmp_path / "first" / "shapes" / "train")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "second"))
    register_shapes()
    image_root = str(tmp_path / "second" / "shapes" / "val")
    assert MetadataCatalog.get("shapes_val").image_root == image_root
    monkeypatch.delenv("DETECTRON2_DATASETS")
    register_shapes()
    assert MetadataCatalog.get("shapes_val").json_file == "datasets/shapes/annotations/instances_val.json"


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 16)))
def test_polygons_give_back_the_pixels_of_any_coverage(sixteenths):
    """Also with several parts, holes, parts within holes, and pixels that touch at a corner or at the border."""
    coverage = sixteenths / 16
    assert np.array_equal(polygons_to_bitmask(trace_visible_polygons(coverage), *coverage.shape), coverage > 0.5)


def test_polygons_leave_a_hole_where_a_smaller_shape_is_on_top():
    coverage = np.zeros((20, 30))
    coverage[2:18, 3:25] = 1
    coverage[8:12, 10:16] = 0
    (polygon,) = trace_visible_polygons(coverage)
    mask = polygons_to_bitmask([polygon], 20, 30)
    assert mask[4, 5] and not mask[10, 12]


def test_annotated_pixels_are_those_of_the_shape(root):
    content = annotations(root)
    for image in content["images"]:
        *_, coverage = draw((DRAWN["seed"], 0, image["id"]), DRAWN["size"])
        polygons = [a["segmentation"] for a in content["annotations"] if a["image_id"] == image["id"]]
        masks = [polygons_to_bitmask(p, image["height"], image["width"]) for p in polygons]
        assert np.array_equal(np.stack(masks), coverage > 0.5)


def test_a_pixel_belongs_to_one_shape_and_shapes_stand_out():
    for image, shapes, coverage in drawings():
        assert coverage.sum(axis=0).max() <= 1
        background = image[coverage.sum(axis=0) == 0].mean(axis=0)
        for shape, share in zip(shapes, coverage, strict=True):
            contrast = np.abs(image[share == 1].mean(axis=0) - background).sum()
            assert contrast > 30, f"{shape.category} differs from the background by {contrast:.0f} of 765"


def test_shapes_occlude_one_another_yet_stay_recognisable():
    inside, visible = [], []
    for _, shapes, coverage in drawings(size=128):
        for shape, share in zip(shapes, coverage, strict=True):
            assert share.sum() >= max(MIN_VISIBLE_AREA, MIN_VISIBLE_FRACTION * shape.area)
            inside.append(bool(np.all((shape.outline > 0) & (shape.outline < 128))))
            visible.append(share.sum() / shape.area)
    occluded = np.array(visible)[inside] < 0.9  # not merely cut off by the image's border
    assert 0.05 < occluded.mean() < 0.5


def test_categories_are_balanced_and_sizes_spread():
    shapes = [shape for _, shapes, _ in drawings(150) for shape in shapes]
    counts = Counter(shape.category for shape in shapes)
    assert set(counts) == set(CATEGORIES) and len(CATEGORIES) >= 4
    assert max(counts.values()) < 1.6 * min(counts.values())
    extents = np.array([np.ptp(shape.outline, axis=0).max() for shape in shapes])
    assert np.mean(extents < 30) > 0.1 and np.mean(extents > 60) > 0.1


def test_the_default_drawings_are_those_of_their_version():
    """Of VERSION 1.3, whose data sets on disk are kept: shapes, mean grey, and pixels that the shapes cover."""
    known = [(1, 178.3, 380), (3, 118.05, 2558.5), (2, 149.67, 1384.69), (5, 121.47, 2940.75), (3, 163.04, 1142.44)]
    drawn = [(len(shapes), image.mean(), coverage.sum()) for image, shapes, coverage in drawings(len(known))]
    assert VERSION == "1.3" and drawn == [pytest.approx(figures, rel=1e-3) for figures in known]


def test_many_shapes_are_small_and_as_recognisable(tmp_path):
    write_shapes(tmp_path / "crowd", train=1, val=1, size=128, objects=(40, 60))
    for split in SPLITS:
        content = annotations(tmp_path / "crowd", split)
        found, size = content["annotations"], content["images"][0]["width"]
        assert 30 <= len(found) <= 60 and content["info"]["parameters"]["objects"] == [40, 60]
        masks = np.stack([polygons_to_bitmask(a["segmentation"], size, size) for a in found])
        assert masks.sum(0).max() == 1 and [a["area"] for a in found] == masks.sum((1, 2)).tolist()
        y, x = (masks.any(axis) for axis in (2, 1))
        assert [a["bbox"][:2] for a in found] == np.stack((x.argmax(1), y.argmax(1)), axis=1).tolist()
    for image, shapes, coverage in drawings(3, 128, (60, 60)):
        assert coverage.sum(axis=0).max() <= 1 and len(shapes) > 40
        background = image[coverage.sum(axis=0) == 0].mean(axis=0)
        for shape, share in zip(shapes, coverage, strict=True):
            assert np.ptp(shape.outline, axis=0).max() < 32
            assert share.sum() >= max(MIN_VISIBLE_AREA, MIN_VISIBLE_FRACTION * shape.area)
            assert np.abs(image[share == 1].mean(axis=0) - background).sum() > 30


@pytest.mark.parametrize("objects", [(0, 3), (5, 4), (1, 17), (3,)])
def test_numbers_of_shapes_without_room_are_named(tmp_path, objects):
    with pytest.raises(InputError, match="^objects is .*, but must be a least and a most, from 1 to 16, .* size 64"):
        write_shapes(tmp_path / "shapes", **SMALL, objects=objects)
    assert not list(tmp_path.iterdir())


def test_backgrounds_are_textured():
    for i in range(40):
        background = draw_background(np.random.default_rng(i), 128)
        assert background.min() >= 0 and background.max() <= 1
        assert background.std(axis=(0, 1)).max() * 255 > 2


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_second_run_keeps_and_other_parameters_replace(tmp_path):
    folder = tmp_path / "shapes"
    assert write_shapes(folder, **SMALL)
    before, first = stamps(folder), files(folder)
    assert not write_shapes(folder, **SMALL)
    assert stamps(folder) == before
    (folder / "train" / "000000000002.png").unlink()
    assert write_shapes(folder, **SMALL) and files(folder) == first
    assert write_shapes(folder, **{**SMALL, "train": 2})
    assert len(annotations(folder)["images"]) == 2 and not (folder / "train" / "000000000003.png").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_folders_with_anything_else_are_refused_and_left_alone(tmp_path):
    drawn, photos, alike = (tmp_path / name for name in ("drawn", "photos", "alike"))
    write_shapes(drawn, **SMALL)
    (drawn / "notes.txt").write_text("mine")
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"jpeg")
    for name in ("train/000000000001.png", "annotations/instances_train.json"):  # our layout, but not ours
        (alike / name).parent.mkdir(parents=True)
        (alike / name).write_text('{"info": {"description": "somebody\'s"}}')
    before = files(tmp_path)
    for folder, named in ((drawn, "notes.txt"), (photos, "holiday.jpg"), (alike, "")):
        with pytest.raises(InputError, match=f"{folder}.*{named}"):
            write_shapes(folder, **{**SMALL, "seed": 1})
    assert files(tmp_path) == before


def test_an_empty_folder_is_used_and_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert write_shapes(tmp_path / "link", **SMALL)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "annotations").is_dir()


def test_an_interrupted_run_leaves_the_old_data_set(tmp_path, monkeypatch):
    folder = tmp_path / "shapes"
    write_shapes(folder, **SMALL)
    before = files(tmp_path)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(InputError, match="shapes can't be written .No space left"):
        write_shapes(folder, **{**SMALL, "seed": 1})
    assert files(tmp_path) == before and list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", RANGES)
def test_numbers_out_of_range_are_named(tmp_path, name):
    with pytest.raises(InputError, match=f"^{name} is -1"):
        write_shapes(tmp_path / "shapes", **{**SMALL, name: -1})
    assert not (tmp_path / "shapes").exists()
