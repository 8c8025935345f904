"""Data sets whose files are named alike, turned or empty: no label goes to another image, and all is told."""

import json
from pathlib import Path

import pytest
from PIL import Image

from convmae_det.cli import convert_annotations
from convmae_det.errors import InputError

VOC = """<annotation><size><width>{width}</width><height>{height}</height></size><object><name>
  cat </name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(path, turn=None, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if turn:
        exif[0x0112] = turn
    Image.new("RGB", size).save(path, exif=exif)


def convert(*words):
    convert_annotations.main([*map(str, words), "--output", "out.json"])
    written = Path("out.json")
    content = json.loads(written.read_text())
    written.unlink()
    return content


def make_yolo(folder, names, text="0 .5 .5 .2 .2\n"):
    for name in names:
        draw(folder / "images" / f"{name}.jpg")
        labels = folder / "labels" / f"{name}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(text)
    (folder / "data.yaml").write_text("train: images\nnames: [cat]\n")


def listed(content):
    return [image["file_name"] for image in content["images"]]


def test_a_list_tells_folders_apart(folder):
    make_yolo(folder, ["cam1/1", "cam2/1", "a.rf.b", "a.rf"])
    (folder / "list.txt").write_text("images/cam1/1.jpg\na.rf.b\n")
    assert listed(convert("data.yaml", "--list", "list.txt")) == ["a.rf.b.jpg", "cam1/1.jpg"]
    (folder / "list.txt").write_text("1.jpg\n")
    with pytest.raises(InputError, match=r"names 1.jpg, which could be cam1/1.jpg and cam2/1.jpg in .*folder"):
        convert("data.yaml", "--list", "list.txt")


def test_an_object_without_an_area_is_left_out_and_counted(folder, capsys):
    make_yolo(folder, ["a"], "0 .5 .5 .2 .2\n0 .5 .5 0 0\n")
    assert len(convert("data.yaml")["annotations"]) == 1
    assert "objects without an area (1, the first: a.txt)" in capsys.readouterr().out
    (folder / "labels/a.txt").write_text("0 .5 .5 0 0\n")
    with pytest.raises(InputError, match=r"holds no object .*objects without an area"):
        convert("data.yaml")


@pytest.mark.parametrize("line", ["train: images/a.jpg", "train: list.txt"])
def test_a_list_that_is_no_text(folder, line):
    make_yolo(folder, ["a"])
    (folder / "list.txt").write_bytes("images/ä.jpg".encode("latin-1"))
    (folder / "data.yaml").write_text(f"{line}\nnames: [cat]\n")
    with pytest.raises(InputError, match=r"(a.jpg|list.txt) is not a list of images, one a line"):
        convert("data.yaml")


def test_labels_of_a_stored_photo_are_not_put_on_the_turned_one(folder):
    draw(folder / "JPEGImages" / "a.jpg", turn=6)
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "a.xml").write_text(VOC.format(width=40, height=30))
    with pytest.raises(InputError, match=r"a.xml labels a.jpg as it is stored, 40×30 pixels.* use --ignore-exif"):
        convert("--format", "voc", "Annotations", "--images", "JPEGImages")
    content = convert("--format", "voc", "Annotations", "--images", "JPEGImages", "--ignore-exif")
    assert content["categories"] == [{"id": 1, "name": "cat"}]


def test_an_image_without_a_label_file_is_told(folder, capsys):
    draw(folder / "JPEGImages" / "a.jpg")
    draw(folder / "JPEGImages" / "b.jpg")
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "a.xml").write_text(VOC.format(width=40, height=30))
    convert("--format", "voc", "Annotations", "--images", "JPEGImages")
    assert (
        "images without a label file are taken as images without objects (1, the first: b.jpg)"
        in capsys.readouterr().out
    )


CVAT = """<annotations><image id="0" name="{}" width="{}" height="30">
<box label="cat" xtl="2" ytl="3" xbr="9" ybr="9"/></image></annotations>"""


def test_an_image_of_that_name_in_another_folder_is_told_and_must_have_the_stated_size(folder, capsys):
    draw(folder / "cam2" / "1.jpg")
    (folder / "annotations.xml").write_text(CVAT.format("cam1/1.jpg", 40))
    convert("annotations.xml", "--images", folder)
    told = "images were found by their names alone, in other folders than their labels say (1"
    assert told in capsys.readouterr().out
    (folder / "annotations.xml").write_text(CVAT.format("cam1/1.jpg", 41))
    with pytest.raises(InputError, match=r"labels 1.jpg as an image of 41×30 pixels, but it has 40×30"):
        convert("annotations.xml", "--images", folder)


def test_another_folder_s_image_is_not_taken_for_a_missing_one(folder, capsys):
    draw(folder / "train" / "1.jpg")
    draw(folder / "val" / "2.jpg")
    (folder / "annotations.xml").write_text(CVAT.format("data/val/1.jpg", 40))
    with pytest.raises(InputError, match=r"it is not in .*\(train/1.jpg, in another folder, may be another image\)"):
        convert("annotations.xml", "--images", folder)
    with pytest.raises(InputError, match="holds no object .*labelled images, which are not in"):
        convert("annotations.xml", "--images", folder, "--skip-missing")


def test_without_a_stated_size_a_name_alone_is_not_enough(folder):
    draw(folder / "all" / "1.jpg")
    (folder / "labels.csv").write_text(
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
        'cam1/1.jpg,9,"{}",1,0,"{""name"":""rect"",""x"":1,""y"":1,""width"":5,""height"":5}","{""class"":""cat""}"\n'
    )
    with pytest.raises(InputError, match=r"all/1.jpg, in another folder, may be another image\); put it there, name"):
        convert("--format", "via", "labels.csv", "--images", folder)
    assert listed(convert("--format", "via", "labels.csv", "--images", folder / "all")) == ["1.jpg"]


def test_images_of_one_name_in_via_are_told_apart_by_their_size(folder):
    draw(folder / "a.jpg")
    region = '"{""name"":""rect"",""x"":1,""y"":1,""width"":5,""height"":5}","{""class"":""cat""}"'
    head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    (folder / "via.csv").write_text(f'{head}\na.jpg,111,"{{}}",1,0,{region}\na.jpg,222,"{{}}",1,0,{region}\n')
    with pytest.raises(InputError, match=r"a.jpg.*twice"):
        convert("--format", "via", "via.csv")


def test_of_folders_named_labels_the_last_belongs_to_the_labels(folder):
    make_yolo(folder / "labels" / "set", ["a"])
    content = convert("--format", "yolo", "labels/set/labels", "--names", "labels/set/data.yaml")
    assert listed(content) == ["a.jpg"]


@pytest.mark.parametrize("split", ["val", "valid", "validation"])
def test_names_of_the_validation_split_of_yolo(folder, split):
    make_yolo(folder, ["train/a", "val/b"])
    (folder / "data.yaml").write_text(f"train: images/train\n{split}: images/val\nnames: [cat]\n")
    convert_annotations.main(["data.yaml", "--output", "out.json"])
    assert listed(json.loads(Path("out_val.json").read_text())) == ["val/b.jpg"]


@pytest.mark.parametrize(
    "line", ["./images/a.jpg", "images/a.jpg", "data/images/a.jpg", "/home/me/set/images/a.jpg", r"C:\set\images\a.jpg"]
)
def test_lists_of_yolo_from_other_machines(folder, line, capsys):
    make_yolo(folder / "set", ["a"])
    (folder / "set" / "data.yaml").write_text("path: /elsewhere\ntrain: list.txt\nnames: [cat]\n")
    (folder / "set" / "list.txt").write_text(f"{line}\n")
    assert listed(convert("set/data.yaml")) == ["a.jpg"]
    (folder / "set" / "list.txt").write_text(f"{line}\n{line}".replace("a.jpg", "b.jpg", 1))
    with pytest.raises(InputError, match=r"b.jpg, which isn't there: correct it, or leave out .* --skip-missing"):
        convert("set/data.yaml")
    assert listed(convert("set/data.yaml", "--skip-missing")) == ["a.jpg"]
    assert "images that set/list.txt names, but are not there (1, the first" in capsys.readouterr().out


def test_what_lines_of_yolo_hold_besides_places_is_told(folder, capsys):
    make_yolo(folder, ["a"], "0 .5 .5 .2 .2 .9\n")
    draw(folder / "images" / "b.jpg")
    convert("data.yaml")
    told = capsys.readouterr().out
    assert "boxes have a confidence, as predictions have (1, the first: a.txt)" in told
    assert "images without a label file are taken as images without objects (1, the first: b.txt)" in told
    make_yolo(folder, ["a"], "0 .5 .5 .2 .2 .5 .5 2\n")
    (folder / "data.yaml").write_text("train: images\nkpt_shape: [1, 3]\nnames: [cat]\n")
    convert("data.yaml")
    assert "keypoints of objects (1, the first: a.txt)" in capsys.readouterr().out


def test_turned_boxes_of_yolo_are_cut_at_the_border(folder):
    make_yolo(folder, ["a"], "0 -.25 .5 .25 0 .75 .5 .25 1\n")  # a rhombus, in 40×30 pixels
    [found] = convert("data.yaml")["annotations"]
    assert found["bbox"] == [0, 0, 30, 30]
    assert found["area"] == pytest.approx(600 - 150 / 2)
    make_yolo(folder, ["a"], "0 0 0 30 0 30 20 0 20\n")  # pixels
    with pytest.raises(InputError, match=r"outside its image of 40×30 \(line 1\)"):
        convert("data.yaml")


VIA_3 = {"project": {"pname": "a"}, "config": {}, "attribute": {}, "file": {}, "view": {}, "metadata": {}}
JSON_MIN = [{"image": "/data/upload/a.jpg", "id": 1, "label": [{"x": 1}], "annotator": 1, "annotation_id": 1}]


@pytest.mark.parametrize(
    "content, name, sentence",
    [
        (
            VIA_3,
            "via",
            r"all.json is a project of the VGG Image Annotator 3, and isn't read: export it there in COCO's",
        ),
        (JSON_MIN, "label-studio", r"all.json is Label Studio's JSON-MIN, .* isn't read: export it there as JSON"),
    ],
)
def test_an_export_that_is_not_read_is_named_with_the_one_that_is(folder, content, name, sentence):
    draw(folder / "a.jpg")
    (folder / "all.json").write_text(json.dumps(content))
    for words in (["all.json"], ["."], ["--format", name, "all.json"]):
        with pytest.raises(InputError, match=sentence):
            convert(*words)
