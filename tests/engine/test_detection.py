"""What is wrong with test data is said before training; results of several data sets and weights are kept apart."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.hooks.evaluation import choose_best_metric
from convmae_det.errors import InputError

pytestmark = pytest.mark.usefixtures("catalog")
NAMES = ["ellipse", "rectangle", "triangle", "star"]


@pytest.fixture
def write(tmp_path):
    """``write(name, change)``: two images, the first with an object of each of four classes, as DATASETS.COCO_FORMAT
    takes them.
    """

    def write(name, change=None, names=NAMES):
        folder = tmp_path / name.replace("/", "-")
        folder.mkdir()
        content = {"images": [], "annotations": [], "categories": []}
        for number in (1, 2):
            Image.effect_noise((64, 64), 90).convert("RGB").save(folder / f"{number}.png")
            content["images"].append({"id": number, "file_name": f"{number}.png", "height": 64, "width": 64})
        for number, label in enumerate(names, start=1):
            content["categories"].append({"id": number, "name": label})
            shape = {"bbox": [9, 9, 40, 40], "area": 1600, "segmentation": [[9, 9, 49, 9, 49, 49, 9, 49]]}
            content["annotations"].append(shape | {"id": number, "image_id": 1, "category_id": number, "iscrowd": 0})
        if change:
            change(content, folder)
        path = tmp_path / f"{folder.name}.json"
        path.write_text(json.dumps(content))
        return [name, str(path), str(folder)]

    return write


@pytest.fixture
def make_cfg(shapes_cfg):
    def make_cfg(*entries, options=()):
        names = tuple(entry[0] for entry in entries)
        cfg = shapes_cfg("DATASETS.COCO_FORMAT", list(entries), "DATASETS.TRAIN", names[:1], "DATASETS.TEST", names)
        cfg.merge_from_list(["SOLVER.MAX_ITER", 1, *options])
        return cfg

    return make_cfg


def remove_image(content, folder):
    (folder / "2.png").unlink()


def damage_image(content, folder):
    (folder / "1.png").write_bytes(b"none")


def resize_image(content, folder):
    Image.new("RGB", (32, 20)).save(folder / "1.png")


def remove_field(content, folder):
    del content["annotations"][1]["category_id"]


def draw_line(content, folder):
    content["annotations"][1]["segmentation"] = [[1, 1, 9, 9]]


def remove_objects(content, folder):
    content["annotations"].clear()


def make_crowds(content, folder):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def remove_class(content, folder):
    del content["annotations"][3], content["categories"][3]


TEST_DATA = {
    remove_image: "2.png doesn't exist",
    damage_image: "1.png can't be read",
    resize_image: "1.png is 32×20 pixels",
    remove_field: "entry 2 of 'annotations' .* has no field 'category_id'",
    draw_line: "annotation 2 has no mask, or polygons of fewer than three corners",
    remove_objects: "No image of val has an object",
    make_crowds: "All 4 annotations of val are crowds .*CROWD_AS_OBJECTS",
    remove_class: "categories",
}


@pytest.mark.parametrize("change", TEST_DATA, ids=lambda change: change.__name__)
@pytest.mark.parametrize("how", ["train", "evaluate"])
def test_test_data_are_read_before_anything_else(write, make_cfg, tmp_path, change, how):
    cfg = make_cfg(write("train"), write("more"), write("val", change))
    with pytest.raises(InputError, match=TEST_DATA[change]):
        if how == "train":
            DetectionTrainer(cfg)
        else:
            cfg.MODEL.WEIGHTS = str(tmp_path / "there is no such file")
            DetectionTrainer.evaluate(cfg)


@pytest.mark.parametrize(
    "metric, problem",
    [
        ("bbox/APl", "has no value, for the test data have no such object: choose bbox followed by /AP, /AP50"),
        ("bbox/AP-star", "has no value"),
        ("bbox/AP-disk", "is not computed"),
        ("bbox/AP@300", "is not computed"),
    ],
)
def test_a_metric_that_can_never_exist_is_refused(write, make_cfg, metric, problem):
    cfg = make_cfg(write("data", lambda content, folder: content["annotations"].pop()))
    cfg.TEST.BEST_METRIC = metric
    with pytest.raises(InputError, match=f"TEST.BEST_METRIC is {metric}, which {problem}"):
        DetectionTrainer(cfg)


def test_metrics_of_any_name_and_number(write, make_cfg):
    names = ["箱/盒", "7", "a/AP", "star"]
    cfg = make_cfg(write("a/b", names=names), write("c", names=names))
    cfg.TEST.DETECTIONS_PER_IMAGE, cfg.SOLVER.EMA.DECAY = 300, 0.9
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 300
    trainer = DetectionTrainer(cfg)
    for metric in ("a/b/segm/AP-箱/盒", "ema/a/b/bbox/AP-a/AP", "c/bbox/AP-7", "c/segm/AP@300", "c/bbox/AR"):
        trainer.cfg.TEST.BEST_METRIC = metric
        assert choose_best_metric(trainer.cfg) == metric


def test_a_metric_of_one_class_is_known_in_a_process_that_has_read_nothing(write, make_cfg):
    """As in those that are started for several GPUs."""
    entry = write("data")
    cfg = make_cfg(entry, options=["TEST.BEST_METRIC", "bbox/AP-star"])
    for name in set(DatasetCatalog) & {"data"}:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
    hooks = DetectionTrainer(cfg)._hooks
    assert any(getattr(hook, "metric", "") == "bbox/AP-star" for hook in hooks)


def test_data_without_annotations_choose_no_weights(write, make_cfg):
    def hide(content, folder):
        del content["annotations"]

    cfg = make_cfg(write("train"), options=["TEST.BEST_METRIC", "", "SOLVER.BASE_LR", 1e-4])
    cfg.DATASETS.COCO_FORMAT = [*cfg.DATASETS.COCO_FORMAT, write("hidden", hide)]
    cfg.DATASETS.TEST = ("hidden",)
    assert not any(hasattr(hook, "metric") for hook in DetectionTrainer(cfg)._hooks)
    cfg.TEST.PATIENCE, cfg.TEST.EVAL_PERIOD = 1, 1
    with pytest.raises(InputError, match=r"TEST\.PATIENCE is 1; it must be 0 where no data set of DATASETS\.TEST has"):
        DetectionTrainer(cfg)
    cfg.TEST.PATIENCE, cfg.TEST.BEST_METRIC = 0, "bbox/AP"
    with pytest.raises(InputError, match=r"TEST\.BEST_METRIC is 'bbox/AP'; it must be empty where"):
        DetectionTrainer(cfg)


def list_results(tmp_path):
    root = tmp_path / "out/inference"
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file())


FILE = "coco_instances_results.json"
FILES = (FILE, "evaluation.json", "thresholds.json")


@pytest.mark.parametrize(
    "names, decay, folders",
    [
        (["a"], 0.0, [""]),
        (["a", "b/c"], 0.0, ["a/", "b%2Fc/"]),
        (["a"], 0.9, ["a/", "a/ema/"]),
        (["a", "a/ema"], 0.9, ["a%2Fema/", "a%2Fema/ema/", "a/", "a/ema/"]),
    ],
)
def test_no_results_replace_others(write, make_cfg, tmp_path, names, decay, folders):
    trainer = DetectionTrainer(make_cfg(*map(write, names), options=["SOLVER.EMA.DECAY", decay]))
    trainer.resume_or_load(False)
    trainer.train()
    assert list_results(tmp_path) == sorted(f"{folder}{file}" for folder in folders for file in FILES)


def test_ids_of_images_that_are_text_come_back(write, make_cfg, tmp_path):
    def name_images(content, folder):
        for image in content["images"]:
            image["id"] = f"img-{image['id']}"
        for annotation in content["annotations"]:
            annotation["image_id"] = f"img-{annotation['image_id']}"

    results = {}
    for name, change in (("numbers", None), ("text", name_images)):
        cfg = make_cfg(write(name, change), options=["OUTPUT_DIR", str(tmp_path / name)])
        torch.manual_seed(0)
        scores = DetectionTrainer.test(cfg, DetectionTrainer.build_model(cfg))
        found = json.loads((tmp_path / name / "inference" / FILE).read_text())
        results[name] = str(scores), {result["image_id"] for result in found}
    assert results["text"][1] == {"img-1", "img-2"} and results["numbers"][1] == {1, 2}


def test_weights_of_other_classes_are_refused(write, make_cfg, tmp_path, caplog):
    others = ["cat", "dog", "cow", "sheep"]
    categories = [[number, name] for number, name in enumerate(NAMES, start=1)]
    trainer = DetectionTrainer(make_cfg(write("data"), options=["DATASETS.CATEGORIES", categories]))
    trainer.resume_or_load(False)
    trainer.train()
    path = tmp_path / "out/model_final.pth"
    assert torch.load(path, weights_only=True)["class_names"] == NAMES
    assert torch.load(path.with_name("model_best.pth"), weights_only=True)["class_names"] == NAMES
    categories = [[number, name] for number, name in enumerate(others, start=1)]
    cfg = make_cfg(
        write("others", names=others), options=["DATASETS.CATEGORIES", categories, "MODEL.WEIGHTS", str(path)]
    )
    sentence = "model_final.pth was trained on the classes ellipse, rectangle, triangle, star"
    with pytest.raises(InputError, match=f"{sentence}, but the configuration names cat, dog, cow, sheep: use it with"):
        DetectionTrainer.evaluate(cfg)
    with pytest.raises(InputError, match=f"{sentence}, but .*: resume it with data of its classes"):
        DetectionTrainer(cfg).resume_or_load(True)
    with caplog.at_level("WARNING", "convmae_det"):
        DetectionTrainer(cfg).resume_or_load(False)
    assert f"{sentence}: what it learned of them begins the training of cat" in caplog.text
