"""One scene, of two cats and two dogs in three images, as each tool exports it: the same annotations come out.

The files in tests/data/foreign are written by the tools themselves where these run as a library (LabelMe, Datumaro,
which also wrote Darknet's, Label Studio's brush), else as the tools' documentation says.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from convmae_det.cli import convert_annotations
from convmae_det.data.detection.annotation_file import read_annotation_file
from convmae_det.data.detection.outlines import encode_outline
from convmae_det.errors import InputError

SIZES = {"a.png": (64, 48), "b.png": (60, 40), "c.png": (64, 48)}

# Class and box, x y width height, of each object; and whether it is an L, less the lower right or lower left quarter.
SCENE = {
    ("a.png", "cat"): ((8, 6, 20, 20), np.s_[16:26, 18:28]),
    ("a.png", "dog"): ((36, 10, 20, 24), None),
    ("b.png", "dog"): ((30, 4, 20, 28), np.s_[20:32, 30:40]),
    ("b.png", "cat"): ((4, 8, 16, 22), None),
}

# Of each export: where the images are, what is converted, further words, the format, what is left out.
BESIDE, OPTION = "images", ["--images", "images"]
EXPORTS = {
    "yolo": ("images/{split}", "data.yaml", [], "yolo", ""),
    "darknet": ("obj_{split}_data", "obj.data", [], "darknet", ""),
    "voc": ("JPEGImages", ".", [], "voc", "parts of objects (1,"),
    "labelme": (BESIDE, ".", [], "labelme", "shapes of the kind point"),
    "cvat": (BESIDE, "annotations.xml", [], "cvat", "shapes of the kind points"),
    "cvat_video": (BESIDE, ".", [], "cvat", ""),
    "label_studio": (BESIDE, ".", [], "label-studio", "further annotations of a task"),
    "via": (BESIDE, "project.json", [], "via", "regions of the kind point"),
    "via_json": (BESIDE, ".", [], "via", "regions of the kind point"),
    "via_csv": (BESIDE, "via_export_csv.csv", [], "via", "regions of the kind point"),
    "openimages": (
        BESIDE,
        "train-annotations-bbox.csv",
        ["--names", "class-descriptions-boxable.csv"],
        "openimages",
        "boxes of images that are not in images",
    ),
    "datumaro": ("images/{split}", ".", [], "datumaro", ""),
    "masks_of_classes": ("photos", ".", ["--images", "../photos"], "masks", ""),
    "masks_of_objects": ("photos", ".", ["--images", "../photos"], "masks", ""),
}
BOXES_ALONE = {"darknet", "openimages"}
MASKS_OF_ALL = {"masks_of_classes", "masks_of_objects"}


def convert(*words):
    convert_annotations.main([*map(str, words), "--output", "out.json"])
    return read_all()


def read_all():
    """Reads the files of all splits, each of which training would read."""
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(Path().glob("out*.json"))}
    for stem in contents:
        read_annotation_file(f"{stem}.json", is_train=True)
    return contents


def gather(contents):
    """Gathers the objects of all files, by the name of their image and their class."""
    objects = {}
    for content in contents.values():
        images = {image["id"]: image for image in content["images"]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        for annotation in content["annotations"]:
            image = images[annotation["image_id"]]
            key = Path(image["file_name"]).name, names[annotation["category_id"]]
            assert key not in objects
            objects[key] = annotation
    return objects


def draw(key):
    (x, y, width, height), hole = SCENE[key]
    columns, rows = SIZES[key[0]]
    pixels = np.zeros((rows, columns), np.uint8)
    pixels[y : y + height, x : x + width] = 1
    if hole:
        pixels[hole] = 0
    return pixels


@pytest.mark.parametrize("name", EXPORTS)
def test_the_same_scene(name, export, capsys):
    place, annotations, words, _, left_out = EXPORTS[name]
    export(name, place)
    contents = convert(annotations, *words)
    sizes = {
        Path(image["file_name"]).name: (image["width"], image["height"])
        for content in contents.values()
        for image in content["images"]
    }
    assert sizes == SIZES
    objects = gather(contents)
    assert objects.keys() == SCENE.keys()
    for key, (box, hole) in SCENE.items():
        found, (width, height) = objects[key], SIZES[key[0]]
        assert found["bbox"] == pytest.approx(box, abs=0.02) and found["iscrowd"] == 0
        outline = found.get("segmentation")
        assert bool(outline) == ((hole is not None and name not in BOXES_ALONE) or name in MASKS_OF_ALL)
        if outline:
            pixels = run_lengths.decode(encode_outline(outline, height, width))
            assert np.array_equal(pixels, draw(key)), (name, key)
            assert found["area"] == pytest.approx(pixels.sum(), abs=1)
    said = capsys.readouterr().out
    assert f"Left out: {left_out}" in said if left_out else "Left out" not in said


def test_a_class_by_colour_alone(export):
    """Objects in colours have no class of their own."""
    export("masks_in_colours", "photos")
    content = convert(".", "--images", "../photos", "--categories", "pet")["out"]
    assert [category["name"] for category in content["categories"]] == ["pet"]
    boxes = sorted(annotation["bbox"] for annotation in content["annotations"])
    assert boxes == sorted([float(number) for number in box] for box, _ in SCENE.values())


def test_images_of_one_name_in_several_folders(export, tmp_path):
    """The longer path counts, whatever subset and folder it begins with; else none is guessed."""
    folder = export("cvat", "images")
    text = (folder / "annotations.xml").read_text()
    (folder / "images/more").mkdir()
    (folder / "images/b.png").rename(folder / "images/more/a.png")
    text = text.replace('name="b.png"', 'name="more\\a.png" subset="Train"')
    (folder / "annotations.xml").write_text(text)
    contents = convert(".")
    names = {image["file_name"] for content in contents.values() for image in content["images"]}
    assert contents.keys() == {"out", "out_train"} and names == {"a.png", "more/a.png", "c.png"}
    (folder / "images/one").mkdir()
    (folder / "images/a.png").rename(folder / "images/one/a.png")
    (folder / "annotations.xml").write_text(text.replace('name="a.png"', 'name="elsewhere/a.png"'))
    (folder / "out.json").unlink()
    (folder / "out_train.json").unlink()
    with pytest.raises(InputError, match="could be .* and .* in images: rename one"):
        convert(".")


def test_links_are_followed(export, tmp_path):
    folder = export("cvat", "images")
    (folder / "images").rename(tmp_path / "elsewhere")
    (folder / "images").mkdir()
    (folder / "images/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(folder / "images")
    assert {image["file_name"] for image in convert(".")["out"]["images"]} == {f"linked/{name}" for name in SIZES}
