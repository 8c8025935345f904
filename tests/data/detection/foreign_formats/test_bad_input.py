"""Bad input ends in a sentence that names the file and the place in it; what is left out is counted."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from convmae_det.cli import convert_annotations
from convmae_det.errors import InputError

LABEL_STUDIO = "project-1-at-2026-03-02-10-10-1a2b3c4d.json"
DATUMARO = "annotations/val.json"
CSV = "train-annotations-bbox.csv"
BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>'


def run(*words):
    convert_annotations.main([*words, "--output", "out.json"])


def replace(old, new):
    """``replace(old, new)(path)`` replaces a text that is in the file."""

    def spoil(path):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return spoil


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def set_region(task, region, **values):
    """Changes a region of a task of Label Studio's."""

    def spoil(path):
        tasks = json.loads(path.read_text())
        entry = tasks[task]["annotations"][0]["result"][region]
        entry.update(values.pop("entry", {}))
        entry["value"].update(values)
        path.write_text(json.dumps(tasks))

    return spoil


CASES = [
    ("cvat", "annotations.xml", replace('name="b.png"', 'name="z.png"'), "z.png can't be read, .* it is not in"),
    (
        "cvat",
        "annotations.xml",
        replace('<box label="dog"', '<box label="cow"'),
        "has an object 'cow', which .* add it",
    ),
    (
        "cvat",
        "annotations.xml",
        replace('xbr="56.00"', 'xbr="560.00"'),
        r"outside its image of 64×48 \(a.png, shape 2\)",
    ),
    ("cvat", "annotations.xml", replace('xtl="36.00"', 'xtl="x"'), "a.png, shape 2: could not convert"),
    ("cvat", "annotations.xml", replace('points="8.00,6.00;', 'points="8.00;'), "a.png, shape 1: its points are not"),
    ("cvat", "annotations.xml", replace('rle="0, 320', 'rle="0, 321'), "b.png, shape 1: its run lengths don't add up"),
    ("cvat", "annotations.xml", replace('left="30"', 'left="50"'), "b.png, shape 1: its mask .* reaches outside"),
    ("cvat", "annotations.xml", replace('width="60" height="40">', 'width="40" height="60">'), "40×60 .*--ignore-exif"),
    ("cvat", "annotations.xml", cut, r"annotations.xml is not a valid XML file \(.*line \d+"),
    ("cvat", "annotations.xml", replace('<?xml version="1.0" encoding="utf-8"?>', BOMB), "it defines entities"),
    ("cvat_video", "annotations.xml", replace("<size>3</size>", "<size>9</size>"), "a.png has no number of a frame"),
    ("label_studio", LABEL_STUDIO, set_region(0, 1, x=150), r"outside its image of 64×48 \(task 1, region 2\)"),
    ("label_studio", LABEL_STUDIO, set_region(0, 1, width=None), "task 1, region 2: "),
    ("label_studio", LABEL_STUDIO, set_region(1, 0, rle=[0, 0, 37, 128, 57]), "task 2, region 1: its mask is damaged"),
    ("label_studio", LABEL_STUDIO, set_region(1, 0, rle=[0, 0, 0, 4, 57]), "task 2, region 1: its mask has 1 pixels"),
    (
        "label_studio",
        LABEL_STUDIO,
        set_region(0, 0, entry={"image_rotation": 90}),
        "its image was turned by 90 degrees",
    ),
    ("label_studio", LABEL_STUDIO, set_region(0, 0, entry={"original_width": 9}), "images of different sizes"),
    ("label_studio", LABEL_STUDIO, replace("1/1a2b3c4d-b.png", "1/1a2b3c4d-a.png"), "both label a.png: remove one"),
    ("label_studio", LABEL_STUDIO, cut, r"is not a valid JSON file \(.*line \d+"),
    ("via", "project.json", replace('"animal": "cat"', '"zoo": "cat"'), "attributes animal, zoo; say by --attribute"),
    ("via", "project.json", replace('"animal": "cat"', '"animal": ""'), "a.png, region 1: it has 0 classes"),
    (
        "via",
        "project.json",
        replace('"all_points_x": [8, ', '"all_points_x": ['),
        "a.png, region 1: it has not as many x",
    ),
    ("via_csv", "via_export_csv.csv", replace('""rect""', '""star""'), "a.png, region 2: it is a 'star'"),
    ("openimages", CSV, replace("0.125000", "a"), "line 2: could not convert"),
    ("openimages", CSV, replace("0.125000", "12.5"), "outside its image of 64×48"),
    ("openimages", CSV, replace("XMax", "Right"), "it has no column XMax"),
    ("datumaro", DATUMARO, replace('"label_id":1', '"label_id":5'), "item b, annotation 1: its label_id 5"),
    (
        "datumaro",
        DATUMARO,
        replace('"counts":"d', '"counts":"'),
        "item b, annotation 1: it has a mask whose run lengths",
    ),
    ("datumaro", DATUMARO, replace('"name":"dog"', '"name":"cow"'), "its classes are not those of train.json"),
    ("darknet", "obj.data", replace("names =", "names2 ="), "must have the lines names = …"),
    ("darknet", "train.txt", replace("a.png", "z.png"), "z.png can't be read, which .*train.txt labels"),
    ("darknet", "obj_train_data/a.txt", replace("0 ", "7 "), "a.txt has an object '7', which obj.names doesn't name"),
    ("yolo", "labels/train/a.txt", replace("0.125000", "zero"), r"a.txt is not a label file of YOLO \(line 1: "),
    ("yolo", "data.yaml", replace("images/val", "images/nowhere"), "names images/nowhere under val, which isn't there"),
    ("voc", "Annotations/b.xml", replace("<name>dog</name>", ""), r"b.xml is not .* \(object 1: it has no name\)"),
    ("labelme", "b.json", replace('"mask": "iVBOR', '"mask": "'), r"b.json is not .* \(shape 1: "),
]


@pytest.mark.parametrize(("name", "file", "spoil", "sentence"), CASES)
def test_a_sentence(name, file, spoil, sentence, export):
    folders = {
        "yolo": "images/{split}",
        "darknet": "obj_{split}_data",
        "voc": "JPEGImages",
        "datumaro": "images/{split}",
    }
    folder = export(name, folders.get(name, "images"))
    spoil(folder / file)
    given = file if name not in ("yolo", "darknet", "voc", "labelme", "datumaro") else "."
    with pytest.raises(InputError) as caught:
        run(given)
    text = str(caught.value)
    assert re.search(sentence, text) and "\n" not in text, text
    assert not list(Path().glob("out*"))


def test_an_empty_result_says_what_was_left_out(export):
    folder = export("via", "images")
    content = json.loads((folder / "project.json").read_text())
    for entry in content["_via_img_metadata"].values():
        entry["regions"] = [region for region in entry["regions"] if region["shape_attributes"]["name"] == "point"]
    (folder / "project.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="no object for the 3 images .* Left out: regions of the kind point"):
        run("project.json")


def test_missing_images_can_be_left_out(export, capsys):
    folder = export("cvat", "images")
    (folder / "images/b.png").unlink()
    with pytest.raises(InputError, match="b.png can't be read"):
        run("annotations.xml")
    run("annotations.xml", "--skip-missing")
    assert "Left out: labelled images, which are not in images (1, the first: b.png)" in capsys.readouterr().out


def test_nothing_is_overwritten(export):
    export("yolo", "images/{split}")
    Path("out_val.json").write_text("mine")
    with pytest.raises(InputError, match="--output out_val.json is there already"):
        run(".")
    assert Path("out_val.json").read_text() == "mine" and not Path("out_train.json").exists()


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "is of no format that is known here"),
        (
            {"a.xml": "<annotation/>", "b.json": '{"shapes": [], "imagePath": "a.png"}'},
            r"could be voc \(a.xml\) or labelme \(b.json\)",
        ),
        (
            {"a.json": '{"images": [], "annotations": []}'},
            "a.json is in COCO's format, which DATASETS.COCO_FORMAT takes",
        ),
        ({"a.yaml": "names: [a]", "b.yaml": "names: [b]"}, "holds a.yaml and b.yaml: name the one"),
        ({"a.txt": "0 0.5 0.5 0.1 0.1"}, "needs a file with the names of its classes: --names"),
    ],
)
def test_what_is_not_recognised(files, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        Path(name).write_text(text)
    with pytest.raises(InputError, match=sentence):
        run(".")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--split", "1"], "--split is 1; it must be a share"),
        (["--seed", "-1"], "--seed is -1; it must be at least 0"),
        (["--attribute", "x"], "--attribute is for via, but the format is cvat"),
        (["--difficult", "skip"], "--difficult is for voc, but the format is cvat"),
        (["more", "words"], "3 paths are named"),
        (["--output", "nowhere/out.json"], "its folder doesn't exist"),
    ],
)
def test_options_that_can_not_be_used(words, sentence, export):
    export("cvat", "images")
    with pytest.raises(InputError, match=sentence):
        convert_annotations.main(
            ["annotations.xml", *words, *([] if "--output" in words else ["--output", "out.json"])]
        )


def test_masks_that_are_no_masks(export):
    folder = export("masks_of_classes", "photos")
    with pytest.raises(InputError, match="is the folder of masks as of images"):
        run("../photos", "--images", "../photos", "--format", "masks")
    Image.effect_noise((64, 48), 90).save(folder / "cat/a.png")
    with pytest.raises(InputError, match="a.png is not a mask .* as a photograph"):
        run(".", "--images", "../photos")
    Image.new("L", (9, 9), 1).save(folder / "cat/a.png")
    with pytest.raises(InputError, match="a.png is not a mask .*it is 9×9 pixels, but its image 64×48"):
        run(".", "--images", "../photos")
    (folder / "cat/a.png").rename(folder / "cat/a.jpg")
    with pytest.raises(InputError, match="a.jpg is no mask, for its format changes values"):
        run(".", "--images", "../photos")
