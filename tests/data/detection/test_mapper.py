"""What the detector gets of an image and its annotations."""

import copy
import pickle

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, BoxMode, PolygonMasks
from PIL import Image
from pycocotools import mask as run_lengths

from convmae_det.data.detection.mapper import DetectionMapper
from convmae_det.data.image import CHANNELS
from convmae_det.errors import InputError

SHAPE = (40, 50)


def annotation(**changes):
    triangle = [10, 5, 30, 5, 10, 25]
    return {
        "bbox": [10, 5, 20, 20],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
        "iscrowd": 0,
        "segmentation": [triangle],
    } | changes


@pytest.fixture
def item(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)).save(path)
    return {"file_name": str(path), "image_id": 1, "height": SHAPE[0], "width": SHAPE[1], "annotations": [annotation()]}


@pytest.fixture
def still(cfg):
    """Augmentations that change nothing."""
    cfg.INPUT.LSJ.ENABLED, cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MIN_SIZE_TRAIN = False, "none", (SHAPE[0],)
    return cfg


def bitmap():
    mask = np.zeros(SHAPE, dtype=np.uint8, order="F")
    mask[8:20, 12:30] = 1
    return mask


def encoded(mask):
    return run_lengths.encode(np.asfortranarray(mask))


def test_training_sample(still, item):
    before = copy.deepcopy(item)
    sample = DetectionMapper(still, True)(item)
    assert item == before
    assert sample["image"].shape == (3, *SHAPE) and sample["image"].dtype == torch.uint8
    assert (sample["height"], sample["width"], sample["image_id"]) == (*SHAPE, 1)
    instances = sample["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[10, 5, 30, 25]] and instances.gt_classes.tolist() == [1]
    assert isinstance(instances.gt_masks, PolygonMasks)


def test_flips_leave_the_description_as_it_was(cfg, item):
    cfg.INPUT.RANDOM_FLIP, mapper = "horizontal", DetectionMapper(cfg, True)
    before = copy.deepcopy(item)
    for _ in range(8):
        mapper(item)
    assert item == before


def test_test_sample_has_no_annotations(still, item):
    still.INPUT.MIN_SIZE_TEST = 80
    sample = DetectionMapper(still, False)(item)
    assert sample["image"].shape == (3, 80, 100) and (sample["height"], sample["width"]) == SHAPE
    assert "annotations" not in sample and "instances" not in sample


def test_box_fits_the_mask_that_a_crop_leaves(cfg, item):
    """The triangle's part in a crop is smaller than the crop of its box."""
    cfg.INPUT.LSJ.MIN_SCALE = cfg.INPUT.LSJ.MAX_SCALE = 2.0
    cfg.INPUT.LSJ.IMAGE_SIZE = 40
    mapper = DetectionMapper(cfg, True)
    shapes = set()
    for seed in range(20):
        np.random.seed(seed)
        instances = mapper(item)["instances"]
        for box, polygons in zip(instances.gt_boxes, instances.gt_masks, strict=True):
            corners = np.concatenate(polygons).reshape(-1, 2)
            assert np.allclose(box, [*corners.min(axis=0), *corners.max(axis=0)], atol=1e-4)
            shapes.add(tuple(((box[2:] - box[:2]) * 10).int().tolist()))
    assert len(shapes) > 3


@pytest.mark.parametrize("format", CHANNELS)
def test_every_input_format(cfg, item, format):
    cfg.INPUT.FORMAT = format
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0] * CHANNELS[format], [1.0] * CHANNELS[format]
    for is_train in (True, False):
        assert len(DetectionMapper(cfg, is_train)(item)["image"]) == CHANNELS[format]


def test_16_bit_image(still, item):
    wide = np.linspace(0, 65535, np.prod(SHAPE)).astype(np.uint16).reshape(SHAPE)
    Image.fromarray(wide).save(item["file_name"])
    image = DetectionMapper(still, True)(item)["image"]
    assert np.array_equal(image[0], wide >> 8)


@pytest.mark.parametrize("mask_format, kind", [("polygon", PolygonMasks), ("bitmask", BitMasks)])
@pytest.mark.parametrize("annotations", [[], [annotation(iscrowd=1)]])
@pytest.mark.parametrize("lsj", [True, False])
def test_image_without_objects(cfg, item, annotations, mask_format, kind, lsj):
    cfg.INPUT.LSJ.ENABLED, cfg.INPUT.MASK_FORMAT = lsj, mask_format
    sample = DetectionMapper(cfg, True)(item | {"annotations": annotations})
    instances = sample["instances"]
    assert len(instances) == 0 and instances.image_size == sample["image"].shape[1:]
    assert instances.gt_boxes.tensor.shape == (0, 4) and instances.gt_classes.dtype == torch.int64
    assert isinstance(instances.gt_masks, kind)


def test_objects_out_of_sight_are_dropped(cfg, item):
    cfg.INPUT.LSJ.MIN_SCALE = cfg.INPUT.LSJ.MAX_SCALE = 2.0
    cfg.INPUT.LSJ.IMAGE_SIZE = 25
    cfg.INPUT.RANDOM_FLIP = "none"
    mapper, counts = DetectionMapper(cfg, True), set()
    for seed in range(20):
        np.random.seed(seed)
        instances = mapper(item)["instances"]
        assert all(instances.gt_boxes.nonempty()) and len(instances.gt_masks) == len(instances)
        counts.add(len(instances))
    assert counts == {0, 1}


def test_without_masks(still, item):
    still.MODEL.MASK_ON = False
    instances = DetectionMapper(still, True)(item)["instances"]
    assert not instances.has("gt_masks") and instances.gt_boxes.tensor.tolist() == [[10, 5, 30, 25]]


def test_run_lengths_become_bitmasks(still, item):
    still.INPUT.MASK_FORMAT = "bitmask"
    rle = annotation(segmentation=encoded(bitmap()))
    instances = DetectionMapper(still, True)(item | {"annotations": [rle, annotation()]})["instances"]
    assert np.array_equal(instances.gt_masks.tensor[0], bitmap())
    assert instances.gt_boxes.tensor[0].tolist() == [12, 8, 30, 20] and len(instances) == 2


@pytest.mark.parametrize(
    "mask_format, broken",
    [
        ("polygon", {"segmentation": encoded(bitmap())}),
        ("bitmask", {"segmentation": encoded(bitmap()[:-1])}),
        ("polygon", {"segmentation": [[1, 2, 3, 4, 5]]}),
        ("polygon", {"segmentation": [[1, 2, 3, 4, 5, "six"]]}),
        ("polygon", {"bbox": [1, 2]}),
        ("polygon", {"category_id": None}),
    ],
)
def test_broken_annotations_name_the_image(still, item, mask_format, broken):
    still.INPUT.MASK_FORMAT = mask_format
    with pytest.raises(InputError, match=r"The annotations of .*image\.png can't be used \(.+\): correct them"):
        DetectionMapper(still, True)(item | {"annotations": [annotation(**broken)]})


def test_image_of_another_size_is_named(still, item):
    with pytest.raises(InputError, match=r"image\.png is 50×40 pixels, but its annotations are for 50×41: annotate"):
        DetectionMapper(still, True)(item | {"height": 41})


def test_rotated_image_with_the_size_of_its_file_is_named(still, item):
    image, exif = Image.open(item["file_name"]), Image.Exif()
    exif[0x0112] = 6
    image.save(item["file_name"], exif=exif)
    with pytest.raises(InputError, match="is 40×50 pixels once turned as its EXIF orientation says, but its annotat"):
        DetectionMapper(still, True)(item)
    turned = item | {"height": SHAPE[1], "width": SHAPE[0]}
    assert DetectionMapper(still, False)(turned)["image"].shape[1] > SHAPE[1]


def test_corrupt_image_is_named(still, item):
    with open(item["file_name"], "r+b") as file:
        file.truncate(100)
    with pytest.raises(InputError, match=r"image\.png can't be read as an image"):
        DetectionMapper(still, True)(item)


def test_semantic_labels_move_with_the_image(cfg, item, tmp_path):
    cfg.INPUT.LSJ.MIN_SCALE = cfg.INPUT.LSJ.MAX_SCALE = 2.0
    Image.fromarray(bitmap()).save(tmp_path / "labels.png")
    Image.fromarray(bitmap() * 255).convert("RGB").save(item["file_name"])
    item["sem_seg_file_name"] = str(tmp_path / "labels.png")
    sample = DetectionMapper(cfg, True)(item)
    assert sample["sem_seg"].dtype == torch.int64 and sample["sem_seg"].shape == sample["image"].shape[1:]
    assert (sample["sem_seg"] == (sample["image"][0] > 127)).float().mean() > 0.95
    assert "sem_seg" not in DetectionMapper(cfg, False)(item)


def test_semantic_labels_of_another_size_are_named(still, item, tmp_path):
    Image.fromarray(bitmap()[:-2]).save(tmp_path / "labels.png")
    item["sem_seg_file_name"] = str(tmp_path / "labels.png")
    with pytest.raises(InputError, match=r"labels\.png is 50×38 pixels, but its image .*image\.png is 50×40"):
        DetectionMapper(still, True)(item)


def test_channels_must_fit_the_model(cfg):
    cfg.INPUT.FORMAT = "L"
    with pytest.raises(
        InputError, match=r"MODEL.PIXEL_MEAN is \[.*\]; it must have as many numbers as INPUT.FORMAT L has channels, 1"
    ):
        DetectionMapper(cfg, True)


def test_unknown_format_is_named_before_an_image_is_read(cfg):
    cfg.INPUT.FORMAT = "HSV"
    with pytest.raises(InputError, match="INPUT.FORMAT is 'HSV'"):
        DetectionMapper(cfg, True)


def test_mapper_travels_to_spawned_workers(cfg, item):
    mapper = DetectionMapper(cfg, True)
    np.random.seed(0)
    expected = mapper(item)["image"]
    np.random.seed(0)
    assert torch.equal(pickle.loads(pickle.dumps(mapper))(item)["image"], expected)
