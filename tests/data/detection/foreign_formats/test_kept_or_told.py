"""Whatever a tool knows besides objects is named, and images get the labels that are theirs."""

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

from convmae_det.cli import convert_annotations
from convmae_det.errors import InputError

VOC = "<annotation><object><name>cat</name><bndbox>{}</bndbox></object></annotation>"
CVAT_BOX = '<box frame="{}" outside="0" label="cat" xtl="2" ytl="3" xbr="9" ybr="9"/>'
CVAT_TRACK = "<annotations><meta><task><size>3</size>{}</task></meta><track label='cat'>{}</track></annotations>"


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """``convert(files, images, *words)`` writes label files and images of 40×30 pixels; content, and what is told."""
    monkeypatch.chdir(tmp_path)

    def convert(files, images, *words):
        for name in images:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (40, 30), 1).save(name)
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            Path(name).write_text(text)
        convert_annotations.main([*words, "--output", "out.json"])
        content = json.loads(Path("out.json").read_text())
        Path("out.json").unlink()
        return content, capsys.readouterr().out

    return convert


def name_images(content):
    """Names the image of each object."""
    names = {image["id"]: image["file_name"] for image in content["images"]}
    return [names[found["image_id"]] for found in content["annotations"]]


def write_labelme(image="a.png", **others):
    shape = {"label": "cat", "shape_type": "rectangle", "points": [[1, 1], [5, 5]]}
    return {"imagePath": image, "shapes": [shape], **others}


def test_frames_of_a_video_follow_their_numbers(convert):
    frames = ["images/2.png", "images/3.png", "images/10.png"]
    video = CVAT_TRACK.format("<source>pets.mp4</source>", CVAT_BOX.format(2))
    content, told = convert({"annotations.xml": video}, frames, ".")
    assert name_images(content) == ["10.png"]
    assert "order" not in told
    content, told = convert({"annotations.xml": CVAT_TRACK.format("", CVAT_BOX.format(0))}, frames, ".")
    assert name_images(content) == ["10.png"]
    assert "in the order that CVAT gives images, 10.png before 2.png (1, the first: 10.png)" in told


def test_tags_and_images_without_annotations(convert):
    text = f'<annotations><image name="a.png" width="40" height="30">{CVAT_BOX.format(0)}<tag label="cat"/></image>'
    content, told = convert({"annotations.xml": f"{text}</annotations>"}, ["a.png", "b.png", "c.png"], ".")
    assert len(content["images"]) == 1
    assert "tags of whole images (1, the first: a.png)" in told
    assert "images in ., for which there are no annotations (2, the first: b.png)" in told


def test_drafts_of_label_studio(convert):
    value = {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["cat"]}
    result = [{"type": "rectanglelabels", "value": value}]
    task = {"id": 7, "data": {"image": "a.png"}, "annotations": [{"result": result}], "drafts": [{"result": result}]}
    _, told = convert({"all.json": [task]}, ["a.png"], "all.json")
    assert "drafts of annotations (1, the first: task 7)" in told


def test_regions_of_via_without_attributes(convert):
    region = {
        "shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 5, "height": 5},
        "region_attributes": {},
    }
    entries = {"a.png1": {"filename": "a.png", "size": 1, "regions": {"0": region}}}
    content, told = convert({"via.json": entries}, ["a.png"], ".", "--categories", "balloon")
    assert [category["name"] for category in content["categories"]] == ["balloon"]
    assert "regions have no attribute, and became 'balloon' (--categories) (1, the first: a.png)" in told


def test_boxes_of_voc_that_begin_at_0(convert):
    sides = "<xmin>0</xmin><ymin>0</ymin><xmax>40</xmax><ymax>30</ymax>"
    content, told = convert({"a.xml": VOC.format(sides)}, ["a.png"], ".")
    assert content["annotations"][0]["bbox"] == [0, 0, 40, 30]
    assert "boxes begin at pixel 0, but Pascal VOC counts from 1" in told
    with pytest.raises(InputError, match="object 1: it has no xmin in a bndbox"):
        convert({"a.xml": VOC.format("")}, [], ".")


def test_sizes_of_labelme_as_text(convert):
    content, _ = convert({"a.json": write_labelme(imageWidth="40", imageHeight="30")}, ["a.png"], ".")
    assert content["annotations"][0]["bbox"] == [1, 1, 4, 4]


def test_an_earlier_conversion_among_files_of_labelme(convert):
    coco = {"images": [], "annotations": [], "categories": []}
    content, told = convert({"a.json": write_labelme(), "earlier.json": coco}, ["a.png"], ".")
    assert name_images(content) == ["a.png"]
    assert "files in COCO's format (1, the first: earlier.json)" in told


def test_label_files_in_folders_are_recognised(convert):
    labels = write_labelme()
    Path("x").mkdir()
    content, _ = convert({"x/a.json": labels}, ["x/a.png"], ".")
    assert name_images(content) == ["x/a.png"]
    with pytest.raises(InputError, match=r"a.json is not a valid JSON file"):
        convert({"x/a.json": "{"}, [], ".")


def test_masks_beside_their_images_are_recognised(convert):
    content, told = convert({}, ["masks/a.png", "images/a.png", "images/b.png"], "masks")
    assert content["annotations"][0]["bbox"] == [0, 0, 40, 30]
    assert "images without a mask are taken as images without objects (1, the first: b.png)" in told


def test_images_without_a_box_of_open_images(convert):
    text = "ImageID,LabelName,XMin,XMax,YMin,YMax\na,/m/1,0,.5,0,.5\n"
    content, told = convert({"boxes.csv": text}, ["a.png", "b.png"], "boxes.csv")
    assert content["annotations"][0]["bbox"] == [0, 0, 20, 15]
    assert "images without a box are taken as images without objects (1, the first: b.png)" in told


def test_the_entry_is_what_a_shell_takes(convert, tmp_path):
    folder = tmp_path / """o'brien "x" $HOME"""
    folder.mkdir()
    _, told = convert({folder / "a.json": write_labelme()}, [folder / "a.png"], str(folder))
    key, value = shlex.split(told.splitlines()[-1])
    assert (key, json.loads(value)) == ("DATASETS.COCO_FORMAT", [["out", "out.json", folder.name]])


def test_archives(convert):
    with pytest.raises(InputError, match=r"all.zip is an archive: unpack it, and name what is in it"):
        convert({"all.zip": ""}, [], "all.zip")
