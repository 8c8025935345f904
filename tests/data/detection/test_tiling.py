"""Training on tiles: each shows its part of the image and of the objects of which it shows enough."""

import numpy as np
import pytest
import tifffile
from detectron2.structures import BoxMode
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as run_lengths
from reference.small import detector_cfg

from convmae_det.config.checks.training import check_fine_tuning
from convmae_det.config.reading import flatten_keys
from convmae_det.config.unused import find_idle_keys
from convmae_det.data.detection.mapper import DetectionMapper
from convmae_det.data.detection.tiling import cut_tiles
from convmae_det.errors import InputError

SIZE = 100, 150  # height, width


def object_of(polygon, crowd=0, as_runs=False):
    points = np.reshape(polygon, (-1, 2))
    mask = [list(map(float, polygon))]
    if as_runs:
        mask = run_lengths.merge(run_lengths.frPyObjects(mask, *SIZE))
    return {
        "bbox": [*points.min(0).tolist(), *points.max(0).tolist()],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 1,
        "iscrowd": crowd,
        "segmentation": mask,
    }


def image_of(*objects, name="image.png", **more):
    return {"file_name": name, "height": SIZE[0], "width": SIZE[1], "image_id": 7, "annotations": list(objects), **more}


def tiles_cfg(*options):
    return detector_cfg("INPUT.TILE", 64, "INPUT.TILE_OVERLAP", 0.25, "INPUT.EMPTY_TILES", 9.0, *options)


def draw(tile):
    """The pixels of the objects of a tile, on the whole image."""
    drawn = np.zeros((tile["height"], tile["width"]), bool)
    for annotation in tile["annotations"]:
        mask = annotation["segmentation"]
        if not isinstance(mask, dict):
            mask = run_lengths.merge(run_lengths.frPyObjects(mask, *drawn.shape))
        drawn |= run_lengths.decode(mask).astype(bool)
    return drawn


CORNERS = st.tuples(st.integers(0, 150), st.integers(0, 100))


@settings(max_examples=25, deadline=None)
@given(st.lists(CORNERS, min_size=3, max_size=6, unique=True), st.booleans())
def test_objects_are_clipped_to_their_tiles(corners, as_runs):
    """Also outlines that cross themselves: runs exactly, polygons but for single pixels on their edges."""
    polygon = [side for corner in corners for side in corner]
    whole = run_lengths.decode(run_lengths.merge(run_lengths.frPyObjects([polygon], *SIZE))).astype(bool)
    objects = object_of(polygon, as_runs=as_runs), object_of(TRIANGLE) | {"category_id": 2}
    for tile in cut_tiles(tiles_cfg("INPUT.TILE_VISIBLE", 0.0), [image_of(*objects)]):
        place = tile["tile"]
        shown = [annotation for annotation in tile["annotations"] if annotation["category_id"] == 1]
        part = whole[place.top : place.bottom, place.left : place.right]
        assert (draw(tile | {"annotations": shown}) ^ part).sum() <= (0 if as_runs else 20)
        for annotation in shown:
            assert min(annotation["bbox"]) >= 0 and max(annotation["bbox"]) <= 64


TRIANGLE = [1, 1, 9, 1, 9, 9]
RIGHT = [20, 20, 80, 20, 80, 40, 20, 40]  # 44 of 60 columns in the first tile, 37 in the second


def cut(*objects, options=(), **more):
    tiles = cut_tiles(tiles_cfg(*options), [image_of(*objects, **more)])
    return {tile["tile"][:2]: tile for tile in tiles}


def test_what_a_tile_shows_too_little_of_is_left_out():
    tiles = cut(object_of(RIGHT), options=["INPUT.TILE_VISIBLE", 0.7])
    assert [place for place, tile in tiles.items() if tile["annotations"]] == [(0, 0)]
    assert tiles[0, 0]["annotations"][0]["bbox"] == [20, 20, 64, 40]
    tiles = cut(object_of(RIGHT), options=["INPUT.TILE_VISIBLE", 0.6])
    assert [place for place, tile in tiles.items() if tile["annotations"]] == [(0, 0), (0, 43)]
    assert tiles[0, 43]["annotations"][0]["bbox"] == [0, 20, 37, 40]


def test_boxes_are_clipped_without_masks():
    box = {key: value for key, value in object_of(RIGHT).items() if key != "segmentation"}
    (annotation,) = cut(box | {"bbox": [20, 20, 60, 20], "bbox_mode": BoxMode.XYWH_ABS})[0, 0]["annotations"]
    assert annotation["bbox"] == [20, 20, 64, 40] and "segmentation" not in annotation


@pytest.mark.parametrize("share, count", [(0.0, 0), (1.0, 1), (3.0, 3), (50.0, 5)])
def test_a_share_of_the_empty_tiles_is_kept_and_always_the_same(share, count):
    objects, options = (object_of(TRIANGLE), object_of(TRIANGLE, crowd=1)), ["INPUT.EMPTY_TILES", share]
    tiles = cut(*objects, options=options)
    assert len(tiles) == 1 + count and tiles.keys() == cut(*objects, options=options).keys()


@pytest.mark.parametrize("suffix, masks", [(".png", "polygon"), (".tif", "bitmask")])
def test_a_tile_is_read_with_its_objects(tmp_path, suffix, masks):
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    path = str(tmp_path / f"image{suffix}")
    if suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(32, 32))
    else:
        Image.fromarray(pixels).save(path)
    options = ("INPUT.LSJ.ENABLED", False, "INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.RANDOM_FLIP", "none")
    mapper = DetectionMapper(tiles_cfg(*options, "INPUT.MASK_FORMAT", masks), True)
    for tile in cut(object_of(RIGHT, as_runs=masks == "bitmask"), name=path).values():
        sample, (top, left) = mapper(tile), tile["tile"][:2]
        assert np.array_equal(sample["image"].numpy().transpose(1, 2, 0), pixels[top : top + 64, left : left + 64])
        boxes = sample["instances"].gt_boxes.tensor.tolist()
        assert boxes == [[max(20 - left, 0), 20, min(80 - left, 64), 40]] * (top == 0 and left < 64)


def test_an_image_of_another_size_than_annotated_is_named(tmp_path):
    Image.new("RGB", (150, 90)).save(tmp_path / "image.png")
    tile = cut(object_of(TRIANGLE), name=str(tmp_path / "image.png"))[0, 0]
    with pytest.raises(InputError, match="is 150×90 pixels, but its annotations are for 150×100"):
        DetectionMapper(tiles_cfg(), True)(tile)


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"segmentation": {"size": [3, 3], "counts": [9]}}, "has a mask of size"),
        ({"segmentation": [[float("nan")] * 6]}, "neither run lengths nor a list of polygons"),
        ({"bbox": [1, 1]}, ""),
    ],
)
def test_annotations_that_cannot_be_cut_are_named(change, problem):
    with pytest.raises(InputError, match=rf"^The annotations of image.png can't be used \(.*{problem}"):
        cut(object_of(TRIANGLE) | change)


def test_tiles_that_show_no_object_are_named():
    with pytest.raises(InputError, match=r"^INPUT\.TILE_VISIBLE is 1\.0; it must be lower"):
        cut(object_of([0, 0, 150, 0, 150, 100, 0, 100]), options=["INPUT.TILE_VISIBLE", 1.0])


@pytest.mark.parametrize(
    "key, value, more",
    [
        ("INPUT.TILE", 16, ()),
        ("INPUT.TILE", -64, ()),
        ("INPUT.TILE_OVERLAP", 0.95, ("INPUT.TILE", 64)),
        ("INPUT.TILE_OVERLAP", 0.3, ()),
        ("INPUT.TILE_VISIBLE", 1.5, ("INPUT.TILE", 64)),
        ("INPUT.EMPTY_TILES", -0.1, ("INPUT.TILE", 64)),
        ("DATASETS.TRAIN_SHARE", 0.5, ("INPUT.TILE", 64, "SEED", 1)),
        ("INPUT.TILE", 64, ("MODEL.META_ARCHITECTURE", "PanopticFPN")),
        ("TEST.TILE", 31, ()),
        ("TEST.TILE", -2, ()),
        ("TEST.TILE", 64, ("MODEL.KEYPOINT_ON", True)),
        ("TEST.TILE_OVERLAP", -0.1, ()),
        ("TEST.TILE_OVERLAP", 0.3, ()),
    ],
)
def test_keys_are_checked(key, value, more):
    with pytest.raises(InputError, match=rf"^{key} is {value}; it must "):
        check_fine_tuning(detector_cfg(*more, key, value), 1)


def test_an_overlap_goes_with_the_tiles_of_training_and_is_told_where_they_are_switched_off():
    tiled = ("INPUT.TILE", 64, "TEST.TILE_OVERLAP", 0.3)
    check_fine_tuning(detector_cfg(*tiled), 1)
    whole = detector_cfg(*tiled, "TEST.TILE", 0)
    check_fine_tuning(whole, 1)
    values, defaults = (dict(flatten_keys(cfg)) for cfg in (whole, detector_cfg()))
    assert "TEST.TILE_OVERLAP is for TEST.TILE above 0" in list(find_idle_keys(values, defaults))
