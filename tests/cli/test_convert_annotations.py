"""Labels of YOLO and Pascal VOC, written here by hand, become the annotations that they stand for."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from convmae_det.cli import convert_annotations
from convmae_det.data.detection.annotation_file import read_annotation_file
from convmae_det.errors import InputError

POLYGON = "0.1 0.1 0.9 0.1 0.5 0.8"
XML = "<annotation><size><width>40</width><height>20</height><depth>3</depth></size>{}</annotation>"
OBJECT = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>{}</object>"
)


def save(path, size=(40, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)


@pytest.fixture
def yolo(tmp_path, monkeypatch):
    """Four images, their labels a box, a polygon beside a box, nothing, and no file."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "c.jpeg", "d.webp"):
        save(tmp_path / "images" / name)
    write_labels(a="1 0.5 0.5 0.25 0.5\n", b=f"0 {POLYGON}\n\n2 0.25 0.5 0.5 1\n", c="")
    (tmp_path / "data.yaml").write_text("names: {0: cat, 1: dog, 2: bird}\nnc: 3\n")
    return tmp_path


def write_labels(**labels):
    Path("labels").mkdir(exist_ok=True)
    for stem, text in labels.items():
        Path("labels", f"{stem}.txt").write_text(text)


def run(*words):
    """Runs the command anew, in the form of version 1.0."""
    Path("out.json").unlink(missing_ok=True)
    convert_annotations.main([*words, "--output", "out.json"])
    return json.loads(Path("out.json").read_text())


def run_yolo(*words):
    return run("yolo", "images", "labels", "data.yaml", *words)


def run_voc(*words):
    return run("voc", "images", "Annotations", *words)


def test_yolo(yolo, capsys):
    content = run_yolo()
    read_annotation_file("out.json", is_train=True)
    assert [(i["id"], i["file_name"], i["width"], i["height"]) for i in content["images"]] == [
        *((1, "a.PNG", 40, 20), (2, "b.jpg", 40, 20), (3, "c.jpeg", 40, 20), (4, "d.webp", 40, 20))
    ]
    assert [(c["id"], c["name"]) for c in content["categories"]] == [(1, "cat"), (2, "dog"), (3, "bird")]
    dog, cat, bird = content["annotations"]
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3]
    assert [(a["image_id"], a["category_id"], a["iscrowd"]) for a in (dog, cat, bird)] == [
        (1, 2, 0),
        (2, 1, 0),
        (2, 3, 0),
    ]
    assert dog["bbox"] == pytest.approx([15, 5, 10, 10]) and dog["area"] == pytest.approx(100)
    assert cat["segmentation"] == [[4, 2, 36, 2, 20, 16]] and cat["bbox"] == pytest.approx([4, 2, 32, 14])
    assert cat["area"] == pytest.approx(32 * 14 / 2)
    assert "segmentation" not in dog and "segmentation" not in bird  # a box is no outline
    said = capsys.readouterr().out
    assert "4 images, 2 of them without objects; 3 objects" in said and "1 cat: 1\n" in said
    assert "by a box alone: 2 of the objects" in said


def test_the_result_is_what_training_reads(yolo):
    (yolo / "labels/a.txt").write_text(f"1 {POLYGON}")
    (yolo / "labels/b.txt").write_text(f"0 {POLYGON}\n0 {POLYGON}")
    run_yolo()
    coco = COCO("out.json")
    assert [coco.annToMask(annotation).sum() for annotation in coco.loadAnns([1, 2])] == [
        pytest.approx(224, abs=16)
    ] * 2


numbers = st.floats(0, 1).map(lambda value: round(value, 4))


@settings(max_examples=25)
@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=9), st.integers(0, 2))
def test_any_polygon_stays_as_it_is(tmp_path_factory, corners, number):
    """Also one that crosses itself, or falls apart into several pieces once it is made of pixels."""
    assume((np.ptp(corners, axis=0) > 0.001).all())  # what has no area is left out
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("yolo"))
        save(Path("images/a.png"), (100, 50))
        write_labels(a=f"{number} " + " ".join(f"{value}" for corner in corners for value in corner))
        Path("data.yaml").write_text("names: [cat, dog, bird]")
        (annotation,) = run_yolo()["annotations"]
    expected = np.array(corners) * (100, 50)
    assert np.allclose(np.reshape(annotation["segmentation"], (-1, 2)), expected, atol=0.01)
    low, high = expected.min(0), expected.max(0)
    assert annotation["bbox"] == pytest.approx([*low, *(high - low)], abs=0.02)
    assert (annotation["category_id"], annotation["iscrowd"]) == (number + 1, 0)


def test_turned_images_have_the_size_that_is_shown(yolo):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(yolo / "images/b.jpg", (40, 20), exif=exif)
    image = run_yolo()["images"][1]
    assert (image["width"], image["height"]) == (20, 40)


def test_a_list_chooses_images(yolo):
    (yolo / "train.txt").write_text("./images/c.jpeg\nb\n")
    content = run_yolo("--list", "train.txt")
    assert [image["file_name"] for image in content["images"]] == ["b.jpg", "c.jpeg"]
    (yolo / "train.txt").write_text("e\n")
    with pytest.raises(InputError, match="train.txt names e, which is not in images"):
        run_yolo("--list", "train.txt")


def test_labels_without_an_image_are_told(yolo, capsys):
    write_labels(z="0 0.5 0.5 0.1 0.1")
    run_yolo()
    assert "label files, whose image is not there, or not listed (1, the first: z.txt)" in capsys.readouterr().out


def test_keypoints_are_no_outline(yolo):
    (yolo / "data.yaml").write_text("names: [cat, dog, bird]\nkpt_shape: [2, 3]\n")
    write_labels(a="1 0.5 0.5 0.25 0.5 0.1 0.1 2 0.2 0.2 2", b="")
    (annotation,) = run_yolo()["annotations"]
    assert annotation["bbox"] == pytest.approx([15, 5, 10, 10]) and "segmentation" not in annotation


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0 0.5 0.5 0.1", r"a\.txt.*at least 5 tokens"),
        ("0 0.5 0.5 0.1 x", r"a\.txt.*"),
        ("0 0.5 0.5 nan 0.1", r"a\.txt.*finite"),
        ("cat 0.5 0.5 0.1 0.1", r"a\.txt.*class id 'cat'"),
        ("0 0.1 0.1 0.9 0.1 0.5 0.8 0.2", r"a\.txt.* has a polygon of 7 numbers"),
        ("3 0.5 0.5 0.1 0.1", r"a\.txt has an object '3', which data\.yaml doesn't name"),
        ("0 0.5 0.5 -0.1 0.1", r"a\.txt.*negative"),
        ("0 0.1 0.1 0.9 nan 0.5 0.8", r"a\.txt.*finite"),
        ("0 0.5 0.5 0.1 0.1 x", r"a\.txt.*finite"),
        ("1.5 0.5 0.5 0.1 0.1", r"a\.txt.*class id '1.5'"),
        ("0 20 10 10 5", r"a\.txt has an object from .* outside its image of 40×20"),
    ],
)
def test_corrupted_labels_are_named(yolo, text, sentence):
    write_labels(a=text)
    with pytest.raises(InputError, match=sentence) as caught:
        run_yolo()
    assert "\n" not in str(caught.value) and not (yolo / "out.json").exists()


def test_images_of_the_same_stem(yolo):
    save(yolo / "images/a.jpg")
    with pytest.raises(InputError, match=r"a\.PNG and a\.jpg in images would share the labels a\.txt"):
        run_yolo()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: (root / "images").rename(root / "elsewhere"), "images is not a folder"),
        (lambda root: (root / "data.yaml").unlink(), r"data\.yaml can't be converted"),
        (lambda root: (root / "data.yaml").write_text("names: [a"), r"data\.yaml can't be converted"),
        (lambda root: (root / "images/b.jpg").write_bytes(b"no image"), r"b\.jpg"),
        (lambda root: [path.unlink() for path in (root / "images").iterdir()], "images holds no images"),
    ],
)
def test_what_is_missing_is_named(yolo, spoil, sentence):
    spoil(yolo)
    with pytest.raises(InputError, match=sentence):
        run_yolo()
    assert not (yolo / "out.json").exists()


def test_conversion_needs_neither_pixels_nor_the_library_that_draws(yolo, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "convmae_det.visualization.predictions", None)
    photo = yolo / "images/b.jpg"
    save(photo, (4000, 3000))
    photo.write_bytes(photo.read_bytes()[:1000])
    assert (run_yolo()["images"][1]["width"], len(run_yolo()["annotations"])) == (4000, 3)


def test_class_ids_may_be_written_as_floats(yolo):
    """As numpy.savetxt writes them."""
    write_labels(a="1.000000e+00 0.5 0.5 0.25 0.5", b="", c="")
    assert [annotation["category_id"] for annotation in run_yolo()["annotations"]] == [2]


@pytest.fixture
def voc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("1.jpg", "2.png", "3.jpg"):
        save(tmp_path / "images" / name)
    (tmp_path / "Annotations").mkdir()
    polygon = (
        "<polygon>"
        + "".join(f"<{n}>{v}</{n}>" for n, v in zip("abcdef", (5, 3, 15, 3, 5, 13), strict=True))
        + "</polygon>"
    )
    objects = OBJECT.format("zebra", 1, 1, 40, 20, ""), OBJECT.format("ant", 5, 3, 15, 13, polygon)
    (tmp_path / "Annotations/1.xml").write_text(XML.format("".join(objects)))
    (tmp_path / "Annotations/2.xml").write_text(XML.format(""))
    return tmp_path


def test_voc(voc):
    content = run_voc()
    read_annotation_file("out.json", is_train=True)
    assert [(c["id"], c["name"]) for c in content["categories"]] == [(1, "ant"), (2, "zebra")]
    assert [image["file_name"] for image in content["images"]] == ["1.jpg", "2.png", "3.jpg"]
    zebra, ant = content["annotations"]
    assert zebra["bbox"] == [0, 0, 40, 20] and zebra["category_id"] == 2  # pixels are counted from 1, the last included
    assert ant["segmentation"] == [[4, 2, 14, 2, 4, 12]] and ant["area"] == 50


def test_categories_of_voc_can_be_fixed(voc):
    content = run_voc("--categories", "zebra", "cow", "ant")
    assert [c["name"] for c in content["categories"]] == ["zebra", "cow", "ant"]
    assert [a["category_id"] for a in content["annotations"]] == [1, 3]
    with pytest.raises(InputError, match=r"1\.xml has an object 'ant', which --categories doesn't name"):
        run_voc("--categories", "zebra")


@pytest.mark.parametrize(
    "text",
    [
        "<annotation>",
        XML.format(OBJECT.format("ant", "x", 1, 2, 2, "")),
        XML.format(OBJECT.format("ant", "nan", 1, 2, 2, "")),
        XML.format(OBJECT.format("ant", 1, 1, 2, 2, "<polygon><x1>1</x1><y1>2</y1><x2>3</x2></polygon>")),
        XML.format("<object><name>a</name></object>"),
    ],
)
def test_broken_xml_is_named(voc, text):
    (voc / "Annotations/2.xml").write_text(text)
    with pytest.raises(InputError, match=r"2\.xml is not an annotation file of Pascal VOC"):
        run_voc()


# Names of YOLO's classes by numbers.


@pytest.mark.parametrize(
    "names",
    [
        "{1: cat, 3: dog, 2: cow}",
        "{3: dog, 1: cat, 2: cow}",
        "{'1': cat, '2': cow, '3': dog}",
    ],
)
def test_labels_use_the_numbers_of_the_names(yolo, names):
    (yolo / "data.yaml").write_text(f"names: {names}\n")
    write_labels(a="1 0.5 0.5 0.25 0.5\n3 0.5 0.5 0.25 0.5\n", b="2 0.5 0.5 0.25 0.5\n")
    content = run_yolo()
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "cow"}, {"id": 3, "name": "dog"}]
    assert [annotation["category_id"] for annotation in content["annotations"]] == [1, 3, 2]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True), st.randoms())
def test_any_numbers(tmp_path_factory, numbers, random):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("yolo"))
        save(Path("images/a.png"))
        used = random.choices(numbers, k=5)
        write_labels(a="\n".join(f"{number} 0.5 0.5 0.25 0.5" for number in used))
        Path("data.yaml").write_text("names:\n" + "".join(f"  {number}: class {number}\n" for number in numbers))
        content = run_yolo()
    named = {category["id"]: category["name"] for category in content["categories"]}
    assert [named[entry["category_id"]] for entry in content["annotations"]] == [f"class {number}" for number in used]
    assert list(named) == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("{1: cat, 3: dog}", r"a\.txt has an object '2', which data\.yaml doesn't name"),
        ("{1: cat, 2: cat}", r"data\.yaml can't be converted: 2 classes are called 'cat'"),
        ("[cat, dog, cat]", r"2 classes are called 'cat'"),
        ("{cat: 0, dog: 1}", r"'cat' under names: must be the number that labels use"),
        ("{-1: cat}", r"-1 under names: must be the number"),
        ("{true: cat}", r"True under names: must be the number"),
        ("cat", "names: must be a list, or map the numbers"),
        ("[]", "names: must be a list, or map the numbers"),
    ],
)
def test_names_that_can_not_be_used(yolo, names, sentence):
    (yolo / "data.yaml").write_text(f"names: {names}\n")
    write_labels(a="2 0.5 0.5 0.25 0.5", b="")
    with pytest.raises(InputError, match=sentence):
        run_yolo()
    assert not (yolo / "out.json").exists()


# Other formats are named, not converted to nothing.

CVAT = '<annotations><version>1.1</version><image id="0" name="1.jpg"><box label="ant" xtl="1"/></image></annotations>'
SHAPES = [
    {"label": "dog", "points": [[2, 3], [12, 3], [12, 13]], "shape_type": "polygon", "group_id": None},
    {"label": "cat", "points": [[30, 10], [20, 5]], "shape_type": "rectangle", "group_id": None},
]


def labelme(stem, shapes, suffix=".jpg", folder="Annotations"):
    content = {"version": "5.4", "imagePath": f"..\\images\\{stem}{suffix}", "shapes": shapes}
    Path(folder, f"{stem}.json").write_text(json.dumps(content | {"imageWidth": 40, "imageHeight": 20}))


def run_labelme(*words):
    return run("labelme", "images", "Annotations", *words)


def clear(root):
    for path in (root / "Annotations").iterdir():
        path.unlink()


def test_what_voc_is_not_is_named(voc):
    clear(voc)
    labelme("1", SHAPES)
    with pytest.raises(
        InputError, match=r"Annotations holds no \.xml files; 1\.json is LabelMe's format: --format labelme"
    ):
        run_voc()
    clear(voc)
    (voc / "Annotations/annotations.xml").write_text(CVAT)
    with pytest.raises(InputError, match="Annotations holds no object"):
        run_voc()
    shutil.copy("Annotations/annotations.xml", "Annotations/1.xml")
    with pytest.raises(InputError, match=r"1\.xml is not .* so that it is CVAT's format: --format cvat"):
        run_voc()
    clear(voc)
    (voc / "Annotations/a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(InputError, match=r"a\.json is in COCO's format, which DATASETS.COCO_FORMAT takes as it is"):
        run_voc()
    clear(voc)
    (voc / "Annotations/1.xml").write_text("<kml></kml>")
    with pytest.raises(InputError, match=r"1\.xml is not an annotation file of Pascal VOC \(its root is kml"):
        run_voc()
    assert not (voc / "out.json").exists()


def test_no_object_at_all_is_no_data_set(voc, yolo):
    for path in Path("labels").iterdir():
        path.write_text("")
    with pytest.raises(InputError, match="labels holds no object for the .* images of images"):
        run_yolo()
    (voc / "Annotations/1.xml").rename(voc / "Annotations/another.xml")
    with pytest.raises(InputError, match="Annotations holds no object"):
        run_voc()
    assert not Path("out.json").exists()


def test_an_archive_is_no_folder(voc, tmp_path):
    shutil.make_archive("images", "zip", "images")
    shutil.rmtree("images")
    Path("images.zip").rename("images")
    with pytest.raises(InputError, match="images is not a folder.*is an archive, not a folder: unpack it"):
        run_voc()


def test_labelme(voc):
    clear(voc)
    labelme("1", SHAPES)
    labelme("2", [], ".png")
    content = run_labelme()
    read_annotation_file("out.json", is_train=True)
    assert [image["file_name"] for image in content["images"]] == ["1.jpg", "2.png"]
    assert [category["name"] for category in content["categories"]] == ["cat", "dog"]
    dog, cat = content["annotations"]
    assert dog["segmentation"] == [[2, 3, 12, 3, 12, 13]] and dog["bbox"] == [2, 3, 10, 10] and dog["area"] == 50
    assert cat["bbox"] == [20, 5, 10, 5] and "segmentation" not in cat
    assert (dog["category_id"], cat["category_id"]) == (2, 1)


def test_two_files_for_an_image(voc):
    clear(voc)
    labelme("1", SHAPES)
    shutil.copy("Annotations/1.json", "Annotations/1 copy.json")
    with pytest.raises(InputError, match=r"1\.json and .* both label 1\.jpg"):
        run_labelme()


def test_shapes_of_a_group_are_one_object(voc, capsys):
    clear(voc)
    parts = [shape | {"label": "dog", "group_id": 3} for shape in SHAPES]
    line = {"label": "sun", "points": [[1, 1], [2, 2]], "shape_type": "line"}
    labelme("1", [*parts, SHAPES[1] | {"group_id": 3}, line])
    content = run_labelme("--categories", "dog", "cat")
    dog, cat = content["annotations"]
    assert dog["bbox"] == [2, 3, 28, 10] and dog["area"] == 100 and len(dog["segmentation"]) == 2
    assert cat["bbox"] == [20, 5, 10, 5] and [category["name"] for category in content["categories"]] == ["dog", "cat"]
    assert "Left out: shapes of the kind line" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[", "it is not valid JSON"),
        ("{}", "it is JSON of a format that isn't known"),
        ('{"images": [], "annotations": []}', "files in COCO's format"),
        ('{"imagePath": "1.jpg", "shapes": [{"label": "a", "points": [[1, 2]]}]}', "has fewer than 3 points"),
        ('{"imagePath": "1.jpg", "shapes": [{"label": "a", "points": [1, 2, 3]}]}', "not pairs of x and y"),
        ('{"imagePath": "1.jpg", "shapes": [{"points": [[1, 2], [3, 4], [5, 6]]}]}', "label"),
        ('{"imagePath": "", "shapes": []}', "names no image"),
        ('{"imagePath": "nowhere.jpg", "shapes": []}', "nowhere.jpg can't be read"),
        (
            '{"imagePath": "1.jpg", "shapes": [{"label": "a", "points": [[1, 2], [900, 4], [5, 6]]}]}',
            "outside its image",
        ),
    ],
)
def test_broken_labelme_files_are_named(voc, text, sentence):
    clear(voc)
    (voc / "Annotations/1.json").write_text(text)
    with pytest.raises(InputError, match=sentence):
        run_labelme()


# Photos that were annotated as they are stored.


@pytest.mark.parametrize("ignore", [True, False])
def test_exif_can_be_ignored(yolo, ignore):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(yolo / "images/b.jpg", (40, 20), exif=exif)
    write_labels(a="", b="1 0.5 0.25 0.5 0.5")
    content = run_yolo(*["--ignore-exif"] * ignore)
    image, (annotation,) = content["images"][1], content["annotations"]
    width, height = (40, 20) if ignore else (20, 40)
    assert (image["width"], image["height"]) == (width, height)
    assert annotation["bbox"] == pytest.approx([width / 4, 0, width / 2, height / 2])
