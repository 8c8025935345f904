"""Objects of tiles: none is counted twice, none is lost on a seam, and masks come out as they are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from convmae_det.data.runs import Runs
from convmae_det.data.tiles import Tile, list_tiles
from convmae_det.inference.merging import WHOLE, Part, merge_parts

CONNECTED = np.ones((3, 3))  # neighbours at corners, too


def look(scene, labels, view, number, score=0.9):
    """An ideal detector: the exact mask and box of what a view shows of each object of `scene`, numbered from 1."""
    part = scene[view.top : view.bottom, view.left : view.right]
    for index in np.unique(part[part > 0]).tolist():
        mask = Runs.from_mask(part == index, view.top, view.left)
        yield Part(number, labels[index - 1], score, box_of(mask), mask)


def box_of(mask):
    extent = mask.find_extent()
    return tuple(float(side) for side in extent.box)


def key(label, mask, shape):
    return label, mask.to_mask(Tile(0, 0, *shape)).tobytes()


@st.composite
def scenes(draw):
    """Connected objects, numbered from 1, many of them touching, and a class for each."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    cells = np.kron(generator.integers(0, 4, (height, width)), np.ones(2 * [draw(st.integers(1, 9))], int))
    cells = cells[:height, :width]
    scene, count = np.zeros((height, width), int), 0
    for value in (1, 2, 3):
        pieces, number = ndimage.label(cells == value, CONNECTED)
        scene[pieces > 0] = pieces[pieces > 0] + count
        count += number
    return scene, generator.integers(0, draw(st.sampled_from((1, 2))), count).tolist()


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(2, 50), st.floats(0, 0.9), st.booleans())
def test_every_object_is_found_once_with_its_mask(scene, size, overlap, with_whole):
    """Whatever tiles are, from two pixels with one in common: parts of larger objects are joined through chains."""
    scene, labels = scene
    tiles = list_tiles(*scene.shape, size, overlap)
    views = [*tiles, Tile(0, 0, *scene.shape)]
    parts = [part for number, tile in enumerate(tiles) for part in look(scene, labels, tile, number)]
    if with_whole:
        parts += look(scene, labels, views[WHOLE], WHOLE, 0.5)
    found = merge_parts(parts, views)
    expected = [key(label, Runs.from_mask(scene == number), scene.shape) for number, label in enumerate(labels, 1)]
    assert sorted(key(one.label, one.mask, scene.shape) for one in found) == sorted(expected)
    assert all(one.box == box_of(one.mask) and one.score == 0.9 for one in found)


# Detectors that are not ideal: two tiles of 100 columns, 20 of them in common, and the whole image.

VIEWS = [Tile(0, 0, 100, 100), Tile(0, 80, 100, 100), Tile(0, 0, 100, 180)]


def part(view, *box, label=0, score=0.9):
    return Part(view, label, score, box, Runs.from_box(box))


def boxes(*parts):
    return sorted(tuple(map(float, found.box)) for found in merge_parts(parts, VIEWS))


def test_parts_that_differ_a_little_are_joined():
    assert boxes(part(0, 50, 10, 100, 40), part(1, 80, 12, 150, 41)) == [(50, 10, 150, 41)]


def test_a_whole_object_is_as_its_tile_shows_it():
    (found,) = merge_parts([part(0, 70, 10, 95, 40, score=0.6), part(1, 80, 10, 97, 42, score=0.8)], VIEWS)
    assert found.box == (70, 10, 95, 40) and found.score == 0.8


def test_neighbours_and_other_classes_are_not_joined():
    assert len(boxes(part(0, 50, 10, 100, 40), part(1, 80, 38, 150, 70))) == 2
    assert len(boxes(part(0, 50, 10, 100, 40), part(1, 80, 10, 150, 40, label=1))) == 2


def test_a_tile_has_no_two_parts_of_an_object():
    """Whatever the other tile takes for one: it is joined with the one with which it agrees most."""
    found = boxes(part(0, 50, 10, 100, 40), part(0, 50, 40, 100, 50), part(1, 80, 10, 150, 50))
    assert found == [(50, 10, 150, 50), (50, 40, 100, 50)]


def test_pieces_of_a_larger_object_are_left_out():
    whole = part(WHOLE, 10, 10, 170, 90)
    assert boxes(whole, part(0, 30, 20, 100, 40)) == [(10, 10, 170, 90)]
    assert len(boxes(whole, part(0, 30, 20, 60, 40))) == 2  # no border cuts it: it may lie before the other
    assert len(boxes(whole, part(0, 30, 20, 100, 40, label=1))) == 2


def test_what_the_whole_image_alone_shows_is_an_object_unless_tiles_show_several_there():
    group = part(WHOLE, 10, 10, 70, 40, score=0.95)
    assert boxes(group) == [(10, 10, 70, 40)]
    assert boxes(group, part(0, 10, 10, 39, 40), part(0, 41, 10, 70, 40)) == [(10, 10, 39, 40), (41, 10, 70, 40)]


def test_where_tiles_show_nothing_the_whole_image_does():
    (found,) = merge_parts([part(WHOLE, 10, 10, 170, 90), part(1, 80, 11, 171, 90)], VIEWS)
    mask = found.mask.to_mask(VIEWS[WHOLE])
    assert mask[10, 20:80].all() and not mask[10, 80:].any() and mask[50, 80:171].all()


def test_objects_without_pixels_are_no_error():
    empty = Part(0, 0, 0.9, (5.0, 5.0, 5.2, 5.2), Runs.from_box((5, 5, 5, 5)))
    assert merge_parts([], VIEWS) == [] and len(merge_parts([empty, empty._replace(view=WHOLE)], VIEWS)) == 2
