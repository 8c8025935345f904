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


@settings(max_examples=150, deadline=None)
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
