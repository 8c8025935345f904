"""The classes of a configuration are those of its data, and what doesn't go together is said in a sentence."""

import pytest
import yaml

from convmae_det.data.classification.data_sets import find_sources, list_data_set
from convmae_det.data.configuration import read_config
from convmae_det.errors import InputError


@pytest.fixture
def write(tmp_path, colours_folder):
    """Writes a configuration of the given keys of DATASETS, on the folder of colours; returns its path."""

    def write(**datasets):
        folders = [[name, str(colours_folder / name)] for name in ("train", "test")]
        content = {"MODEL": {"META_ARCHITECTURE": "ImageClassifier"}}
        content["DATASETS"] = {"CLASS_FOLDERS": folders, "TRAIN": ["train"], "TEST": ["test"]} | datasets
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


def test_classes_come_from_the_training_data(write):
    cfg = read_config(write())
    assert cfg.DATASETS.CATEGORIES == [[0, "blue"], [1, "green"], [2, "red"]]
    assert cfg.MODEL.CLASSIFIER.NUM_CLASSES == 3
    assert list_data_set(cfg, "test").classes == ["blue", "green", "red"]


def test_a_stated_order_holds(write):
    cfg = read_config(write(CATEGORIES=[[0, "red"], [1, "green"], [2, "blue"]]))
    dataset = list_data_set(cfg, "train")
    assert {entry["label"] for entry in dataset if "/red/" in entry["file_name"]} == {0}


def test_a_model_can_be_used_without_its_data(write):
    cfg = read_config(write(CLASS_FOLDERS=[["train", "/no/such/folder"]], TEST=[]))
    assert cfg.DATASETS.CATEGORIES == [] and cfg.MODEL.CLASSIFIER.NUM_CLASSES == 1000
    with pytest.raises(InputError, match=r"^/no/such/folder doesn't exist"):
        list_data_set(cfg, "train")


def test_without_training_data_the_classes_are_those_of_the_test_data(write, colours_folder):
    folders = [["train", "/no/such/folder"], ["test", str(colours_folder / "test")]]
    assert [name for _, name in read_config(write(CLASS_FOLDERS=folders)).DATASETS.CATEGORIES] == [
        "blue",
        "green",
        "red",
    ]


@pytest.mark.parametrize(
    "folders, sentence",
    [
        ([], r"^There is no data set train in DATASETS.CLASS_FOLDERS \(it is empty\)"),
        ([["other", "x"]], r"^There is no data set train in DATASETS.CLASS_FOLDERS \(it lists other\)"),
        ([["train"]], r"holds \['train'\]: make it a list of pairs"),
        ([["train", "x"], ["train", "y"]], r"names train twice"),
    ],
)
def test_data_sets_that_are_not_there(write, folders, sentence):
    cfg = read_config(write())
    cfg.DATASETS.CLASS_FOLDERS = folders
    with pytest.raises(InputError, match=sentence):
        find_sources(cfg, ["train"])


def test_another_number_of_classes_is_refused(write):
    cfg = read_config(write(), ["MODEL.CLASSIFIER.NUM_CLASSES", "5"])
    with pytest.raises(InputError, match=r"^MODEL.CLASSIFIER.NUM_CLASSES is 5; it must be the number .* train has, 3"):
        list_data_set(cfg, "train")


def test_other_classes_are_refused(write):
    cfg = read_config(write(CATEGORIES=[[0, "blue"], [1, "green"]]))
    with pytest.raises(InputError, match="has images of red, not among the 2 classes"):
        list_data_set(cfg, "train")
