"""The classes of a detector come from its data, go along in config.yaml, and must be those of all data sets."""

import json

import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from reference.small import DETECTOR, ENCODER

from convmae_det.data.configuration import read_config
from convmae_det.data.detection.catalog import check_classes, load_dataset_dicts
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.errors import InputError

KEY = "MODEL.ROI_HEADS.NUM_CLASSES"
TWO = [[7, "ant"], [90, "zebra"]]


pytestmark = pytest.mark.usefixtures("catalog")


@pytest.fixture
def entry(tmp_path):
    """entry(name, categories): write two images of 64×64 pixels, each with an object of each category."""

    def entry(name, categories=TWO):
        folder = tmp_path / name
        folder.mkdir()
        images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in (1, 2)]
        for image in images:
            Image.effect_noise((64, 64), 90).convert("RGB").save(folder / image["file_name"])
        box = {"bbox": [5, 5, 30, 40], "area": 1200, "iscrowd": 0, "segmentation": [[5, 5, 35, 5, 35, 45, 5, 45]]}
        annotations = [
            box | {"image_id": image["id"], "category_id": number} for image in images for number, _ in categories
        ]
        content = {
            "images": images,
            "annotations": [annotation | {"id": i + 1} for i, annotation in enumerate(annotations)],
            "categories": [{"id": number, "name": text} for number, text in categories],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return [name, str(tmp_path / f"{name}.json"), str(folder)]

    return entry


def read(*entries, train=(), test=(), config_file="", pairs=()):
    settings = ["DATASETS.COCO_FORMAT", str(list(entries)), "DATASETS.TRAIN", str(tuple(train))]
    return read_config(str(config_file), [*settings, "DATASETS.TEST", str(tuple(test)), *map(str, pairs)])


def test_classes_come_from_the_data(entry):
    cfg = read(entry("mine"), train=["mine"])
    assert cfg.DATASETS.CATEGORIES == TWO and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    cfg = read(entry("other", [[3, "cow"]]), test=["other"], pairs=["MODEL.META_ARCHITECTURE", "RetinaNet"])
    assert cfg.DATASETS.CATEGORIES == [[3, "cow"]] and cfg.MODEL.RETINANET.NUM_CLASSES == 1


def test_known_data_sets_need_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = read_config("")
    assert len(cfg.DATASETS.CATEGORIES) == cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80
    cfg = read(train=["shapes_train"], test=["shapes_val"])
    assert cfg.DATASETS.CATEGORIES[0] == [1, "ellipse"] and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 4


def test_data_sets_that_nobody_knows_leave_the_classes_as_they_are():
    cfg = read(train=["unheard of"])
    assert cfg.DATASETS.CATEGORIES == [] and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80


@pytest.mark.parametrize("where", ["file", "command line"])
def test_a_number_of_classes_that_is_set_stays_and_is_checked(entry, tmp_path, where):
    (tmp_path / "own.yaml").write_text("MODEL: {ROI_HEADS: {NUM_CLASSES: 5}}" if where == "file" else "VERSION: 2")
    pairs = [] if where == "file" else [KEY, 5]
    cfg = read(entry("mine"), train=["mine"], config_file=tmp_path / "own.yaml", pairs=pairs)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 5
    with pytest.raises(InputError, match=f"{KEY} is 5, but the data set mine has 2 categories: set {KEY} 2"):
        check_classes(cfg, cfg.DATASETS.TRAIN)


def test_a_dumped_configuration_gives_the_same(entry, tmp_path):
    cfg = read(entry("mine"), train=["mine"], test=["mine"])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    assert yaml.safe_load(read_config(str(tmp_path / "config.yaml")).dump()) == yaml.safe_load(cfg.dump())


def test_a_model_can_be_used_without_its_data(entry, tmp_path):
    cfg = read(entry("mine"), train=["mine"])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    (tmp_path / "mine.json").unlink()
    DatasetCatalog.remove("mine")
    MetadataCatalog.pop("mine")
    cfg = read_config(str(tmp_path / "config.yaml"))
    assert cfg.DATASETS.CATEGORIES == TWO and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    with pytest.raises(
        InputError, match="mine.json, the annotation file of mine in DATASETS.COCO_FORMAT, doesn't exist"
    ):
        load_dataset_dicts(["mine"], is_train=True, cfg=cfg)
    with pytest.raises(InputError, match="mine.json, the annotation file"):
        read(*cfg.DATASETS.COCO_FORMAT, train=["mine"])


@pytest.mark.parametrize(
    ("others", "difference"),
    [
        ([[7, "ant"], [91, "zebra"]], "'zebra' with the id 90, here 'zebra' with the id 91"),
        ([[7, "ant"], [90, "cow"]], "'zebra' with the id 90, here 'cow' with the id 90"),
        ([[7, "zebra"], [90, "ant"]], "'ant' with the id 7, here 'zebra' with the id 7"),
        ([[7, "ant"]], r"2 categories \(ant, zebra\) against 1 categories \(ant\)"),
    ],
)
def test_data_sets_must_have_the_same_categories(entry, tmp_path, others, difference):
    entries = [entry("mine"), entry("yours", others)]
    for names in ({"train": ["mine", "yours"]}, {"train": ["mine"], "test": ["yours"]}):
        with pytest.raises(InputError, match=f"the data set mine and of the data set yours differ: .*{difference}"):
            read(*entries, **names)
    (tmp_path / "config.yaml").write_text(read(entries[0], train=["mine"]).dump())
    with pytest.raises(InputError, match=f"DATASETS.CATEGORIES and of the data set yours differ: .*{difference}"):
        read(*entries, train=["yours"], config_file=tmp_path / "config.yaml")


@pytest.mark.parametrize("value", ["[3]", "[['a', 3]]", "[[1, 'a', 2]]"])
def test_categories_that_are_none(value):
    with pytest.raises(InputError, match="DATASETS.CATEGORIES holds .*list of pairs"):
        read(pairs=["DATASETS.CATEGORIES", value])


def test_pretraining_needs_neither_categories_nor_the_same_ones(entry, tmp_path):
    entries = [entry("mine"), entry("yours", [[1, "cow"]])]
    (tmp_path / "mine.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 64}]})
    )
    cfg = read(*entries, train=["mine", "yours"], pairs=["MODEL.META_ARCHITECTURE", "MaskedAutoencoder"])
    assert cfg.DATASETS.CATEGORIES == [] and {"mine", "yours"} <= set(DatasetCatalog)


def test_ids_come_back_in_the_predictions(entry, tmp_path):
    """Of an untrained model, whose scores of all classes are above the threshold."""
    small = [*ENCODER, *DETECTOR, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "DATALOADER.NUM_WORKERS", 0]
    index = small.index(KEY)
    del small[index : index + 2]
    cfg = read(entry("mine"), test=["mine"], pairs=[*small, "OUTPUT_DIR", tmp_path / "out"])
    DetectionTrainer.test(cfg, DetectionTrainer.build_model(cfg))
    predictions = json.loads((tmp_path / "out/inference/coco_instances_results.json").read_text())
    assert {prediction["category_id"] for prediction in predictions} == {7, 90}
    assert {prediction["image_id"] for prediction in predictions} == {1, 2}
