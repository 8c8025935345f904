"""Turned boxes, ellipses, groups, crowds and packed masks become the objects that their tools show."""

import base64
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as run_lengths

from convmae_det.cli import convert_annotations
from convmae_det.data.detection.foreign_formats.objects import (
    group,
    make_box,
    make_curve,
    make_mask,
    make_polygon,
    outline_box,
    outline_ellipse,
)
from convmae_det.data.detection.foreign_formats.run_lengths import unpack_brush, unpack_rows

SIZE = (100, 80)
TRIANGLE = [[10, 10], [30, 10], [10, 30]]


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """``convert(file, text, *words)`` writes a label file, and converts it for an image a.png."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", SIZE).save("a.png")

    def convert(file, text, *words):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text if isinstance(text, str) else json.dumps(text))
        convert_annotations.main([*words, "--output", "out.json"])
        content = json.loads(Path("out.json").read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        return [(names[entry["category_id"]], entry) for entry in content["annotations"]]

    return convert


def test_boxes_turn_clockwise_as_seen():
    corners = outline_box([50, 50, 70, 60], 90, [50, 50])
    assert corners == pytest.approx(np.array([[50, 50], [50, 70], [40, 70], [40, 50]]))
    assert outline_box([50, 50, 70, 60], 90).mean(0) == pytest.approx([60, 55])


@settings(max_examples=30)
@given(st.floats(0, 60), st.floats(0, 60), st.floats(0, 360))
def test_any_ellipse(x, y, degrees):
    outline = shapely.Polygon(outline_ellipse([50, 40], [x, y], degrees))
    assert outline.area == pytest.approx(np.pi * x * y, rel=0.01, abs=0.01)
    turned = shapely.Polygon(outline_ellipse([50, 40], [y, x], degrees + 90))
    assert outline.area == pytest.approx(turned.area)


def test_what_reaches_beyond_the_image_is_cut():
    found = make_curve("sun", outline_ellipse([100, 40], [20, 20]), SIZE)
    assert found.box == pytest.approx([80, 20, 100, 60], abs=0.1)
    assert shapely.Polygon(found.polygons[0]).area == pytest.approx(np.pi * 400 / 2, rel=0.01)
    with pytest.raises(ValueError, match="outside its image"):
        make_curve("sun", outline_ellipse([200, 40], [20, 20]), SIZE)


def test_groups():
    parts = [make_polygon("cat", TRIANGLE), make_box("cat", [40, 40, 50, 50]), make_box("dog", [0, 0, 5, 5])]
    around = make_box("cat", [9.5, 10, 30, 30.5])
    joined, dog = group([(1, part) for part in parts], SIZE)
    assert [joined.label, dog.label] == ["cat", "dog"] and len(joined.polygons) == 2 and not dog.polygons
    assert joined.box.tolist() == [10, 10, 50, 50]
    (outlined,) = group([(1, around), (1, parts[0])], SIZE)
    assert len(outlined.polygons) == 1 and outlined.box.tolist() == [10, 10, 30, 30]
    mask = make_mask("cat", np.ones((10, 5)), (60, 20), SIZE)
    (masked,) = group([(1, mask), (1, parts[0])], SIZE)
    assert run_lengths.area(masked.mask) == pytest.approx(50 + 200, abs=20) and not masked.polygons
    assert len(group([(None, part) for part in parts] + [(0, parts[0])], SIZE)) == 4


def test_masks_lie_where_they_are_put():
    found = make_mask("cat", np.array([[0, 1], [0, 0]]), (98, 78), SIZE)
    assert found.box.tolist() == [99, 78, 100, 79]
    assert np.argwhere(run_lengths.decode(found.mask)).tolist() == [[78, 99]]
    assert make_mask("cat", np.zeros((2, 2)), (0, 0), SIZE) is None
    with pytest.raises(ValueError, match="reaches outside"):
        make_mask("cat", np.ones((2, 2)), (99, 0), SIZE)


def pack_brush(values, lengths=(3, 4, 8, 16)):
    """Packs values as Label Studio does, each run by the longest counts."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in lengths)
    changes = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    for start, stop in itertools.pairwise(changes):
        bits += f"1{3:02b}{stop - start - 1:016b}{values[start]:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_any_packed_mask(width, height, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    assert np.array_equal(unpack_brush(pack_brush(np.repeat(mask.ravel() * 255, 4)), width, height), mask * 255)
    changes = np.flatnonzero(np.diff(mask.ravel().astype(int), prepend=0, append=2))
    counts = np.diff(changes, prepend=0)
    assert np.array_equal(unpack_rows(counts.tolist(), width, height), mask)


def test_turned_regions_of_label_studio(convert):
    """Percentages are of width and height, but angles of pixels."""
    shared = {"original_width": 100, "original_height": 80, "image_rotation": 0, "id": "r"}
    box = {"x": 50, "y": 25, "width": 20, "height": 12.5, "rotation": 90}
    regions = [
        shared | {"type": "rectangle", "value": box},  # its label follows
        shared | {"type": "labels", "value": box | {"labels": ["cat", "tame"]}},
        {
            **shared,
            "id": "e",
            "type": "ellipselabels",
            "value": {"x": 50, "y": 50, "radiusX": 10, "radiusY": 25, "rotation": 90, "ellipselabels": ["sun"]},
        },
        {"type": "choices", "value": {"choices": ["day"]}, "id": "c"},
    ]
    task = {"id": 5, "data": {"image": "/data/local-files/?d=photos/a.png"}, "annotations": [{"result": regions}]}
    cat, tame, sun = convert("export.json", [task], "export.json")
    assert [cat[0], tame[0], sun[0]] == ["cat", "tame", "sun"]
    assert cat[1]["bbox"] == tame[1]["bbox"] == pytest.approx([40, 20, 10, 20])
    assert sun[1]["bbox"] == pytest.approx([30, 30, 40, 20], abs=0.1)


def test_a_bitmap_of_label_studio(convert):
    pixels = np.zeros((80, 100, 4), np.uint8)
    pixels[10:20, 30:50] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    region = {"type": "bitmasklabels", "value": {"imageDataURL": address, "bitmasklabels": ["cat"]}}
    task = {"id": 5, "data": {"image": "a.png"}, "annotations": [{"result": [region]}]}
    ((name, cat),) = convert("export.json", [task], "export.json")
    assert (name, cat["bbox"], cat["area"]) == ("cat", [30, 10, 20, 10], 200)


def test_shapes_of_cvat(convert):
    shapes = """
        <ellipse label="sun" cx="100.0" cy="40.0" rx="20.0" ry="10.0" rotation="90.0"/>
        <box label="cat" xtl="50" ytl="50" xbr="70" ybr="60" rotation="90"/>
        <box label="dog" xtl="1" ytl="1" xbr="5" ybr="5" group_id="3"/>
        <box label="dog" xtl="11" ytl="1" xbr="15" ybr="5" group_id="3"/>"""
    text = f'<annotations><image name="x/a.png" width="100" height="80">{shapes}</image></annotations>'
    cat, dog, sun = sorted(convert("annotations.xml", text, "annotations.xml"), key=lambda pair: pair[0])
    assert sun[1]["bbox"] == pytest.approx([90, 20, 10, 40], abs=0.1)
    assert cat[1]["bbox"] == pytest.approx([55, 45, 10, 20]) and cat[1]["area"] == pytest.approx(200)
    assert dog[1]["bbox"] == [1, 1, 14, 4] and "segmentation" not in dog[1]


def test_shapes_of_via(convert):
    shapes = [
        {"name": "circle", "cx": 50, "cy": 40, "r": 10},
        {"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10, "theta": np.pi / 2},
    ]
    regions = [
        {"shape_attributes": shape, "region_attributes": {"kind": {"sun": True, "moon": False}}} for shape in shapes
    ]
    content = {"a.png99": {"filename": "a.png", "size": 99, "regions": dict(enumerate(regions))}}
    (_, circle), (_, ellipse) = convert("via.json", content, "via.json")
    assert circle["bbox"] == pytest.approx([40, 30, 20, 20]) and circle["area"] == pytest.approx(np.pi * 100, rel=0.01)
    assert ellipse["bbox"] == pytest.approx([40, 20, 20, 40])


def test_circles_of_labelme(convert):
    shape = {"label": "sun", "points": [[50, 40], [53, 44]], "shape_type": "circle", "group_id": None}
    ((_, sun),) = convert("a.json", {"imagePath": "a.png", "shapes": [shape]}, ".")
    assert sun["bbox"] == pytest.approx([45, 35, 10, 10], abs=0.1)


@pytest.mark.parametrize(("words", "crowd"), [([], 1), (["--difficult", "object"], 0), (["--difficult", "skip"], None)])
def test_difficult_objects_of_voc(words, crowd, convert, capsys):
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>"
    objects = f"<object><name>cat</name>{box}</object><object><name>dog</name><difficult>1</difficult>{box}</object>"
    found = dict(convert("a.xml", f"<annotation>{objects}</annotation>", ".", *words))
    assert found["cat"]["iscrowd"] == 0
    assert (found["dog"]["iscrowd"] if "dog" in found else None) == crowd
    assert ("difficult objects" in capsys.readouterr().out) == (crowd != 0)


def test_groups_of_open_images(convert, capsys):
    lines = ["ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf,IsDepiction", "a,/m/1,0.1,0.2,0.25,0.5,1,1"]
    ((_, found),) = convert("boxes.csv", "\n".join(lines), "boxes.csv")
    assert found["iscrowd"] == 1 and found["bbox"] == pytest.approx([10, 20, 10, 20])
    said = capsys.readouterr().out
    assert "boxes of groups became crowds" in said and "depictions" in said


def test_void_and_smooth_masks(convert, capsys):
    Path("masks").mkdir()
    values = np.zeros((80, 100), np.uint8)
    values[10:20, 10:20], values[10:20, 30:50], values[9, 10:20] = 1, 2, 255
    palette = Image.fromarray(values)
    palette.putpalette([0] * 768)
    palette.save("masks/a.png")
    found = convert("note.md", "", "masks", "--images", ".", "--format", "masks")
    assert [entry["area"] for _, entry in found] == [100, 200]
    assert "whose value 255 is taken for no object (1" in capsys.readouterr().out
    Path("out.json").unlink()
    values[:] = 0
    values[10:20, 10:20], values[9, 10:20], values[20, 10:20], values[10:20, 9] = 255, 40, 130, 201
    Image.fromarray(values).convert("RGB").save("masks/a.png")
    ((_, smooth),) = convert("note.md", "", "masks", "--images", ".", "--format", "masks")
    assert smooth["area"] == 120 and "cut at the half (1" in capsys.readouterr().out
