"""What the command takes, what it writes, and how it ends."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convmae_det.cli.main import main
from convmae_det.data.shapes import write_shapes

HOSTILE = "<script>alert(1)</script>"


def noise(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((64, 64)).save(path)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Drawn shapes, with a class of a hostile name and an object one pixel wide."""
    root = tmp_path_factory.mktemp("shapes") / "shapes"
    write_shapes(root, train=6, val=2, size=64)
    for part in ("train", "val"):
        path = root / "annotations" / f"instances_{part}.json"
        content = json.loads(path.read_text())
        content["categories"][0]["name"] = HOSTILE
        if part == "train":
            content["annotations"][0] |= {"bbox": [10, 10, 1, 30], "segmentation": [[10, 10, 11, 10, 11, 40, 10, 40]]}
        path.write_text(json.dumps(content))
    return root


@pytest.fixture
def words(shapes, catalog):
    """Words that name the training and the test data."""
    train, val = (
        [str(shapes / "annotations" / f"instances_{part}.json"), str(shapes / part)] for part in ("train", "val")
    )
    return [*train, "--test", *val, "--threads", "1"]


def test_text_json_and_page_say_the_same(words, tmp_path, capsys):
    assert main(["check", *words, "--json", f"{tmp_path}/check.json", "--html", f"{tmp_path}/check.html"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "check.html").read_text()
    content = json.loads((tmp_path / "check.json").read_text())
    assert [entry["name"] for entry in content["data_sets"]] == ["train", "test"]
    (finding,) = [finding for finding in content["findings"] if finding["check"] == "tiny-objects"]
    (example,) = finding["examples"]
    assert example["annotation"] == 1 and example["boxes"] == [[10, 10, 1, 30]]
    assert finding["problem"] in printed and finding["problem"] in page
    assert "train: train: 6 images" in printed
    assert f"{content['summary']['warning']} warning" in printed


def test_the_page_escapes_and_loads_nothing(words, tmp_path):
    main(["check", *words, "--html", f"{tmp_path}/check.html"])
    page = (tmp_path / "check.html").read_text()
    assert HOSTILE not in page and "&lt;script&gt;alert" in page
    assert not re.search(r"https?://", page)
    assert '<rect class="outline" x="10' in page and "data:image/jpeg;base64," in page


def test_a_page_that_cannot_be_written_is_refused_before_the_data_are_read(words, tmp_path, capsys):
    (tmp_path / "mine.html").write_text("mine")
    for name, sentence in ((".", "is a folder: name a file in it"), ("mine.html", "give another name by --html")):
        assert main(["check", *words, "--html", f"{tmp_path}/{name}"]) == 1
        printed = capsys.readouterr()
        assert sentence in printed.err and not printed.out
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_names_that_cannot_be_printed(shapes, tmp_path, catalog, capsys):
    content = json.loads((shapes / "annotations" / "instances_train.json").read_text())
    content["images"][0]["file_name"] = "a\udcff\x1b[31m.png"
    content["categories"][1]["name"] = "red\x1b[31m\ud800"
    (tmp_path / "odd.json").write_text(json.dumps(content))
    words = ["check", f"{tmp_path}/odd.json", f"{shapes}/train", "--threads", "1"]
    assert main([*words, "--json", f"{tmp_path}/check.json", "--html", f"{tmp_path}/check.html"]) == 1
    printed = capsys.readouterr().out
    assert "a\\udcff\\x1b[31m.png" in printed and printed.replace("\n", "").isprintable()
    assert "a\\udcff\\x1b[31m.png" in (tmp_path / "check.html").read_text()
    findings = json.loads((tmp_path / "check.json").read_text())["findings"]
    assert findings[0]["examples"][0]["files"] == [f"{shapes}/train/a\udcff\x1b[31m.png"]


def test_exit_status(words, tmp_path, shapes):
    assert main(["check", *words]) == 0
    assert main(["check", *words, "--strict"]) == 1
    assert main(["check", *words[:2], "--test", *words[:2]]) == 1  # the same data


def test_data_of_a_configuration(shapes, tmp_path, catalog, capsys):
    (tmp_path / "mine.yaml").write_text(
        f"DATASETS:\n  COCO_FORMAT: [[mine, {shapes}/annotations/instances_train.json, {shapes}/train]]\n"
        "  TRAIN: [mine]\n  TEST: []\nMODEL: {MASK_ON: False}\n"
    )
    assert main(["check", "--config-file", f"{tmp_path}/mine.yaml", "INPUT.LSJ.IMAGE_SIZE", "32"]) == 0
    printed = capsys.readouterr().out
    assert "train: mine: 6 images" in printed and "INPUT.LSJ.IMAGE_SIZE 32" in printed


def test_a_folder_of_images(tmp_path, capsys, catalog):
    for seed in range(3):
        noise(tmp_path / f"photos/deep/{seed}.png", seed)
    noise(tmp_path / "photos/copy.png", 1)
    (tmp_path / "photos/broken.jpg").write_bytes(b"no image")
    assert main(["check", f"{tmp_path}/photos", "MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", "64"]) == 1
    printed = capsys.readouterr().out
    assert "- 1 of 5 images of train can't be read." in printed
    assert "copy.png = deep/1.png" in printed
    assert "1 error, 1 warning, 0 notes" in printed


@pytest.mark.parametrize("as_table", [False, True])
def test_images_with_a_class_each(tmp_path, capsys, as_table):
    """A test image is in the training data, of another class."""
    for part, count in (("train", 20), ("test", 4)):
        rows = ["path,label"]
        for seed in range(count):
            name = f"{part}/{'ant' if seed % 2 else 'bee'}/{seed}.png"
            noise(tmp_path / name, seed + (100 if part == "test" and seed else 0))
            rows.append(f"{name},{name.split('/')[1]}")
        (tmp_path / f"{part}.csv").write_text("\n".join(rows))
    names = [f"{tmp_path}/{part}{'.csv' if as_table else ''}" for part in ("train", "test")]
    size = ["MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", "64"]
    assert main(["check", names[0], "--classes", "--test", names[1], *size]) == 1
    printed = capsys.readouterr().out
    assert "train: train: 20 images, 2 classes" in printed
    assert "- 1 of 4 test images is also in the training data" in printed
    assert "1 error, 0 warnings, 0 notes" in printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "There is nothing to look at: name an annotation file"),
        (["--test", "val.json", "photos"], "--test goes with a data set to train on"),
        (
            ["nothing.json", "photos"],
            "nothing.json, the annotation file of train in DATASETS.COCO_FORMAT, doesn't exist",
        ),
        (["coco_2017_tarin"], "The data set 'coco_2017_tarin' is not registered: did you mean coco_2017_train"),
        (["one.json", "two", "three"], "is more than an annotation file and a folder of images"),
        (["one.json"], "one.json is an annotation file without a folder of images"),
        ([".", "--test", "coco_2017_val"], "are of different kinds"),
        ([".", "two", "--classes"], "with --classes, name one folder of classes"),
        ([".", "INPUT.NOTHING", "3"], "INPUT.NOTHING"),
        ([".", "--threads", "0"], "--threads is 0"),
    ],
)
def test_what_is_wrong_is_said(words, sentence, tmp_path, monkeypatch, capsys, catalog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.json").write_text("{}")
    assert main(["check", *words]) == 1
    assert sentence in capsys.readouterr().err


def test_what_is_read_is_not_replaced(words, tmp_path, monkeypatch, capsys, catalog):
    """Said before any image is read; the configuration of a run names its annotation files, too."""
    monkeypatch.setattr("convmae_det.cli.check.inspect_data", lambda *_: pytest.fail("images are read"))
    train, val = words[0], words[3]
    config = tmp_path / "mine.yaml"
    config.write_text(f"DATASETS:\n  COCO_FORMAT: [[mine, {train}, {words[1]}]]\n  TRAIN: [mine]\n  TEST: []\n")
    before = [Path(path).read_bytes() for path in (train, val, config)]
    named, both = ["check", *words], ["check", "--config-file", str(config)]
    for command, output in ((named, train), (named, val), (both, train), (both, str(config))):
        for option in ("--json", "--html"):
            assert main([*command, option, output]) == 1
            assert f"{option} {output} would replace what is read" in capsys.readouterr().err
    assert [Path(path).read_bytes() for path in (train, val, config)] == before
    assert main([*named, "--html", f"{tmp_path}/none/check.html"]) == 1
    assert "its folder doesn't exist" in capsys.readouterr().err
    assert main([*named, "--json", f"{tmp_path}/a", "--html", f"{tmp_path}/../{tmp_path.name}/a"]) == 1
    assert "name two files" in capsys.readouterr().err
