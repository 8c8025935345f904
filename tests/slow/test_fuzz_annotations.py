"""Annotation files with senseless entries give samples that can be trained on, or a sentence."""

import copy
import json
import math

import hypothesis
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import PolygonMasks
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from reference.faults import Tally, counts, examples
from reference.small import detector_cfg

from convmae_det.data.detection.catalog import check_classes, load_dataset_dicts
from convmae_det.data.detection.categories import find_detector_categories
from convmae_det.data.detection.coco_format import register_coco_format
from convmae_det.data.detection.mapper import DetectionMapper

HEIGHT, WIDTH = 40, 56
BIG = "a number of 5001 digits"
NUMBERS = [0, -1, 1, 2, 0.5, WIDTH, -WIDTH, 1e3, 1e5, 1e9, -1e9, 1e38, 1e300, 2**31, 2**32, 2**63, 10**30, BIG]
NUMBERS += [math.nan, math.inf, -math.inf, 1e-30, 4.5]
ODD = [
    None,
    True,
    False,
    "",
    "3",
    "nan",
    [],
    {},
    [[]],
    {"counts": []},
    "../../etc/passwd",
    "/etc/passwd",
    "\0",
    "\ud800",
]
POLYGONS = [[], [[]], [[1, 2]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[3, 3, 3, 3, 3, 3]], [[0, 0, 9, 9, 9, 0, 0, 9]]]
POLYGONS += [
    [[0, 0, 1e9, 0, 1e9, 1e9]],
    [[0, 0, 1e300, 0, 0, 1e300]],
    [[0, 0, 5, "5", 0, 5]],
    [[[0, 0], [5, 5], [0, 5]]],
]
POLYGONS += [
    [[-30, -30, -20, -30, -20, -20]],
    [[-9, -9, 90, -9, 90, 90]],
    [[1, 2], [2, 3, 22, 3, 2, 23]],
    [2, 3, 22, 3, 2, 23],
]
PIXELS = HEIGHT * WIDTH
SIZES = [[HEIGHT, WIDTH], [HEIGHT, WIDTH], [HEIGHT, WIDTH], [WIDTH, HEIGHT], [1e9, 1], [], None, [40.0, 56.0]]
COUNTS = [
    [PIXELS],
    [0, 9, PIXELS - 9],
    [5, 20, PIXELS - 25],
    [-5, PIXELS + 5],
    [99.5, PIXELS - 99.5],
    [2**40],
    [],
    "",
    "1",
]
COUNTS += ["zzzz", "Pg6", "é", None]
MASKS = [{"size": size, "counts": counts} for size in SIZES for counts in COUNTS]
BOXES = [
    [0, 0, 0, 0],
    [5, 5, 0, 9],
    [5, 5, -9, -9],
    [100, 100, 9, 9],
    [-50, -50, 20, 20],
    [-9, -9, 90, 90],
    [],
    [1, 2, 3],
]
BOXES += [
    [0, 0, 1e300, 1e300],
    [1e9, 1e9, 1, 1],
    ["0", "0", "9", "9"],
    [0, 0, math.nan, 9],
    [[0, 0, 9, 9]],
    [0, 0, 1e-30, 9],
]

values = st.one_of(*map(st.sampled_from, (NUMBERS, ODD, POLYGONS, MASKS, BOXES)))


def good_content() -> dict:
    box = {"iscrowd": 0, "area": 400, "bbox": [2, 3, 20, 20], "segmentation": [[2, 3, 22, 3, 2, 23]]}
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)],
        "categories": [{"id": 7, "name": "ant"}, {"id": 90, "name": "zebra"}],
        "annotations": [box | {"id": i + 1, "image_id": 1 + i % 2, "category_id": (7, 90)[i // 2]} for i in range(4)],
    }


@st.composite
def damaged(draw) -> bytes:
    content = good_content()
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        section = draw(st.sampled_from(["annotations", "annotations", "annotations", "images", "categories"]))
        entries = content.get(section)
        if not isinstance(entries, list) or not entries or draw(st.integers(0, 30)) == 0:
            content[section] = draw(values)
            continue
        number = draw(st.integers(0, len(entries) - 1))
        if not isinstance(entries[number], dict):
            continue
        match draw(
            st.sampled_from(["value", "mask", "box", "number", "move", "move", "move", "drop", "double", "replace"])
        ):
            case "value":
                entries[number][draw(st.sampled_from([*entries[number], "ignore", "keypoints", "iscrowd"]))] = draw(
                    values
                )
            case "mask":
                entries[number]["segmentation"] = draw(st.sampled_from(POLYGONS + MASKS))
            case "box":
                entries[number]["bbox"] = draw(st.sampled_from(BOXES))
            case "number" | "move" as kind:
                key = draw(st.sampled_from(["bbox", "segmentation"]))
                numbers = entries[number].get(key)
                while isinstance(numbers, list) and numbers and isinstance(numbers[0], list):
                    numbers = numbers[0]
                if isinstance(numbers, list) and numbers:
                    numbers[draw(st.integers(0, len(numbers) - 1))] = draw(
                        st.floats(-200, 200) if kind == "move" else st.sampled_from(NUMBERS + ODD)
                    )
            case "drop":
                entries[number].pop(draw(st.sampled_from(sorted(entries[number]))), None)
            case "double":
                entries.append(copy.deepcopy(entries[number]))
            case "replace":
                entries[number] = draw(values)
    return encoded(content, draw)


def encoded(content: dict, draw) -> bytes:
    digits = f"1{'0' * 5000}"  # Python doesn't write an integer as long as that
    text = json.dumps(content, default=str).replace(f'"{BIG}"', digits)
    if draw(st.integers(0, 25)) == 0:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(["", "}", "\0", "[" * 3000, "\ufeff"])) + text[place + 1 :]
    return text.encode()


@pytest.fixture
def entry(tmp_path):
    (tmp_path / "images").mkdir()
    for number in (1, 2):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 99, dtype=np.uint8)).save(tmp_path / f"images/{number}.png")
    yield ["fuzzed", str(tmp_path / "fuzzed.json"), str(tmp_path / "images")]
    DatasetCatalog.pop("fuzzed", None)
    MetadataCatalog.pop("fuzzed", None)


def check(sample: dict) -> int:
    """All that the model would get of a sample's objects can be trained on."""
    instances = sample.get("instances", ())
    if len(instances):
        boxes = instances.gt_boxes
        height, width = instances.image_size
        assert boxes.tensor.isfinite().all() and boxes.nonempty().all()
        assert (boxes.tensor >= 0).all() and (boxes.tensor[:, 2:] <= boxes.tensor.new_tensor([width, height])).all()
        assert set(instances.gt_classes.tolist()) <= {0, 1}
        if isinstance(instances.gt_masks, PolygonMasks):
            assert all(np.isfinite(polygon).all() for polygons in instances.gt_masks for polygon in polygons)
        masks = instances.gt_masks.crop_and_resize(boxes.tensor, 14)  # as the mask head does
        assert masks.dtype.is_floating_point is False and len(masks) == len(instances)
    return len(instances)


@counts(160, 1200)
@pytest.mark.parametrize("split", ["polygon", "bitmask", "jitter", "test"])
def test_damaged_annotations(count, split, entry):
    cfg = detector_cfg("DATASETS.COCO_FORMAT", [entry], "DATASETS.TRAIN", ("fuzzed",), "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    cfg.DATASETS.TEST = ()
    cfg.INPUT.MASK_FORMAT = "bitmask" if split == "bitmask" else "polygon"
    cfg.INPUT.LSJ.ENABLED = split == "jitter"
    if split != "jitter":
        cfg.INPUT.MIN_SIZE_TRAIN = (HEIGHT,)
    is_train, tally, objects = split != "test", Tally(), 0

    def load():
        register_coco_format([entry])
        find_detector_categories(cfg)
        dicts = load_dataset_dicts(["fuzzed"], is_train=is_train, cfg=cfg)
        check_classes(cfg, ["fuzzed"])
        mapper = DetectionMapper(cfg, is_train)
        return [mapper(item) for item in dicts]

    @hypothesis.seed(split)
    @examples(count // 4 + 1)
    @given(damaged())
    def run(content):
        nonlocal objects
        with open(entry[1], "wb") as file:
            file.write(content)
        DatasetCatalog.pop("fuzzed", None)
        MetadataCatalog.pop("fuzzed", None)
        objects += sum(check(sample) for sample in tally(load) or [])

    run()
    tally.report(f"damaged annotation files, {split}; {objects} objects learned from")
    assert min(tally.outcomes[kind] for kind in ("survived", "refused")) > 0
