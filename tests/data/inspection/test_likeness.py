"""Near hashes are found as by comparing all with all, and what looks the same is connected."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from convmae_det.data.inspection.likeness import count_bits, find_near, find_similar, group_equal, join_pairs


@st.composite
def clusters(draw):
    """Some hashes, and for each of them some that differ from it by a few bits."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=8)
    changed = [centre ^ sum({1 << bit for bit in draw(flips)}) for centre in centres for _ in range(3)]
    return np.unique(np.array(centres + changed, np.uint64))


@settings(max_examples=40)
@given(clusters(), st.integers(1, 8))
def test_near_hashes(hashes, most):
    pairs = itertools.combinations(range(len(hashes)), 2)
    expected = [[i, j] for i, j in pairs if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= most]
    assert find_near(hashes, most).tolist() == expected


@settings(max_examples=20)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=5))
def test_bits_are_counted(numbers):
    assert count_bits(np.array(numbers, np.uint64)).tolist() == [number.bit_count() for number in numbers]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12))
def test_what_looks_the_same_is_connected_in_each_part_and_between_them(images):
    """Images are four pictures; those of one differ by a bit of the hash."""
    pictures = np.random.default_rng(0).integers(0, 256, (4, 16, 16), dtype=np.uint8)
    hashes = np.random.default_rng(1).integers(0, 2**63, 4, dtype=np.uint64)
    names = [name for name, _ in images]
    roles = np.array([is_test for _, is_test in images])
    bits = np.array([1 << (place % 2) for place in range(len(images))], np.uint64)
    pairs = find_similar(hashes[names] ^ bits, pictures[names], roles)
    assert all(names[one] == names[other] and one != other for one, other in pairs)
    assert sorted(join_pairs(pairs, len(images))) == sorted(group_equal(names))
    for name in set(names):
        if len({is_test for other, is_test in images if other == name}) == 2:
            assert any(names[one] == name and roles[one] != roles[other] for one, other in pairs)


def test_equal_hashes_of_different_pictures():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16), dtype=np.uint8)
    same_shape_but_darker = np.stack([pictures[0], pictures[0] // 4])
    for thumbnails in (pictures, same_shape_but_darker):
        assert not len(find_similar(np.array([5, 5], np.uint64), thumbnails, np.array([False, True])))


def test_pictures_without_contrast():
    grey = np.stack([np.full((16, 16), value, np.uint8) for value in (100, 101, 200)])
    pairs = find_similar(np.array([0, 0, 0], np.uint64), grey, np.zeros(3, bool))
    assert {tuple(sorted(pair)) for pair in pairs.tolist()} == {(0, 1)}
