import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from convmae_det.visualization.colours import class_colour
from convmae_det.visualization.labels import COVERED, Label, _intersect, _place_labels, draw_labels

SIZE = 12


def objects(boxes, text="object") -> list[Label]:
    return [Label(tuple(map(float, box)), number, text, text) for number, box in enumerate(boxes)]


def place(labels, picture=(400, 300)):
    boxes = np.array([label.box for label in labels])
    return _place_labels(labels, boxes, picture, SIZE)


def draw(labels, picture=(400, 300)) -> np.ndarray:
    canvas = Image.new("RGB", picture, (128, 128, 128))
    draw_labels(canvas, labels, SIZE)
    return np.asarray(canvas)


boxes = st.tuples(st.integers(0, 380), st.integers(0, 280), st.integers(1, 200), st.integers(1, 200)).map(
    lambda box: (box[0], box[1], min(box[0] + box[2], 400), min(box[1] + box[3], 300))
)


@given(st.lists(boxes, min_size=1, max_size=20))
@settings(max_examples=40)
def test_labels_hide_neither_objects_nor_each_other(boxes):
    placed, without = place(objects(boxes))
    assert len(placed) + without.total() == len(boxes)
    places = np.array([place for _, place, _ in placed]).reshape(-1, 4)
    assert (places[:, :2] >= 0).all() and (places[:, 2:] <= (400, 300)).all()
    shared = _intersect(places, places)
    assert shared.sum() == shared.trace()
    sides = np.array(boxes, dtype=float)
    areas = (sides[:, 2:] - sides[:, :2]).prod(axis=1)
    assert (_intersect(places, sides) <= COVERED * areas + 1e-6).all()


def test_an_object_by_itself_has_its_label_beside_it():
    for box in ((100, 100, 160, 160), (0, 0, 30, 30), (370, 270, 400, 300), (0, 0, 400, 300)):
        ((_, (x0, y0, x1, y1), writing),), without = place(objects([box]))
        assert not without and writing.text == "object"
        assert x0 <= box[2] and y0 <= box[3] and x1 >= box[0] and y1 >= box[1]  # touches the object


def test_a_line_leads_to_an_object_whose_label_lies_apart():
    """The innermost of nested small objects has no place at its side."""
    labels = objects([(190, 140, 210, 160)] + [(150 + 4 * i, 110 + 4 * i, 250 - 4 * i, 190 - 4 * i) for i in range(5)])
    placed, _ = place(labels)
    apart = [
        label
        for label, (x0, y0, x1, y1), _ in placed
        if max(label.box[0] - x1, x0 - label.box[2], label.box[1] - y1, y0 - label.box[3]) > 1
    ]
    assert apart
    drawn = draw(labels)
    for label in apart:
        (where,) = [where for other, where, _ in placed if other is label]
        colour = (drawn == class_colour(label.index)).all(-1)
        x0, y0, x1, y1 = map(int, where)
        colour[y0:y1, x0:x1] = False
        assert colour.sum() > 10


@pytest.mark.parametrize("number", [2, 14])
def test_a_crowd_of_tiny_objects_is_counted(number):
    """A few of them have labels."""
    labels = [
        Label((x * 20.0, y * 20.0, x * 20.0 + 16, y * 20.0 + 16), 0, "tile 90%", "tile")
        for x in range(number)
        for y in range(number)
    ]
    _, without = place(labels, (280, 280))
    assert without == ({(0, "tile"): 196} if number == 14 else {})
    white = (draw(labels, (280, 280)) == 255).all(-1).sum()  # the legend's ground, and letters
    assert white > 800 if number == 14 else white < 500


def test_long_names_are_cut():
    ((_, where, writing),), _ = place(objects([(10, 100, 60, 150)], text="a very long name of a class " * 5))
    assert writing.text.endswith("…") and where[2] - where[0] < 220
