"""Images that are the same, or look the same.

n images; a pair is two indices of images.
"""

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

BITS = 64
MOST_DIFFERENT = 6  # bits of the hashes of two images that may look the same
# Of two such images that do look the same, the thumbnails differ by less than this share of their contrast,
# the average brightness aside, which differs by less than a number of grey levels of 255.
MOST_CONTRAST, MOST_BRIGHTNESS = 0.2, 24.0
LEAST_CONTRAST = 2.0  # grey levels: what counts as the contrast of an image without any


def group_equal(keys: Sequence[Hashable]) -> list[list[int]]:
    """Groups the indices of equal keys; keys that occur once are left out."""
    groups = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return [group for group in groups.values() if len(group) > 1]


def find_similar(hashes: np.ndarray, thumbnails: np.ndarray, roles: np.ndarray) -> np.ndarray:
    """Finds pairs of images that look the same.

    Of many images that all look the same, not all pairs are found, but enough to connect them, and one between any two
    roles that are among them.

    Args:
        hashes: (n,) uint64
        thumbnails: (n, h, w) uint8
        roles: (n,) bool, whether an image is for testing

    Returns:
        (number of pairs, 2) int
    """
    known, inverse = np.unique(hashes, return_inverse=True)
    firsts = [_find_first(inverse, roles == role, len(known)) for role in (False, True)]  # by hash; -1: none
    pairs = list(_pair_equal_hashes(inverse, roles, firsts))
    near = find_near(known, MOST_DIFFERENT)
    for one in firsts:
        for other in firsts:
            found = np.stack([one[near[:, 0]], other[near[:, 1]]], axis=1)
            pairs.append(found[(found >= 0).all(axis=1)])
    candidates = np.concatenate(pairs) if pairs else np.zeros((0, 2), int)
    return candidates[look_alike(thumbnails, candidates)]


def _find_first(inverse: np.ndarray, chosen: np.ndarray, number: int) -> np.ndarray:
    """Finds the first of the chosen images with each hash; -1 where there is none."""
    first = np.full(number, -1)
    indices = np.flatnonzero(chosen)[::-1]
    first[inverse[indices]] = indices
    return first


def _pair_equal_hashes(inverse: np.ndarray, roles: np.ndarray, firsts: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields pairs of each image with the first of either role that has its hash."""
    indices = np.arange(len(inverse))
    for role, first in zip((False, True), firsts, strict=True):
        partner = first[inverse]
        pairs = np.stack([partner, indices], axis=1)
        yield pairs[(partner >= 0) & (partner != indices) & ((roles == role) | (partner < indices))]


def find_near(hashes: np.ndarray, most: int) -> np.ndarray:
    """Finds all pairs of different hashes that differ in at most `most` bits.

    Of `most` + 1 pieces that both are cut into, one must be equal; only such pairs are compared.

    Args:
        hashes: (n,) uint64, all different
        most: fewer than 64

    Returns:
        (number of pairs, 2) int, the lower index first
    """
    edges = np.linspace(0, BITS, most + 2).astype(int)
    found = [np.zeros((0, 2), int)]
    for low, high in itertools.pairwise(edges):
        piece = hashes >> np.uint64(low) & np.uint64(2 ** int(high - low) - 1)
        order = np.argsort(piece, kind="stable")
        for pairs in _pair_neighbours(piece[order]):
            pairs = np.sort(order[pairs], axis=1)
            different = count_bits(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
            found.append(pairs[different <= most])
    return np.unique(np.concatenate(found), axis=0)


def _pair_neighbours(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the pairs of indices of equal values, which are sorted, one distance in the order after the other."""
    starts = np.arange(len(values))
    distance = 1
    while len(starts := starts[starts + distance < len(values)]):
        starts = starts[values[starts] == values[starts + distance]]
        yield np.stack([starts, starts + distance], axis=1)
        distance += 1


def count_bits(numbers: np.ndarray) -> np.ndarray:
    """Counts the bits that are set in (n,) uint64."""
    return np.unpackbits(np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=int)


def look_alike(thumbnails: np.ndarray, pairs: np.ndarray, chunk: int = 2**14) -> np.ndarray:
    """Compares the thumbnails of pairs of images: (number of pairs,) bool."""
    parts = np.split(pairs, range(chunk, len(pairs), chunk))
    return np.concatenate([_compare(thumbnails[part[:, 0]], thumbnails[part[:, 1]]) for part in parts])


def _compare(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    axes = (1, 2)
    ones, others = ones.astype(np.float32), others.astype(np.float32)
    means = ones.mean(axes, keepdims=True), others.mean(axes, keepdims=True)
    contrast = np.maximum(np.minimum(ones.std(axes), others.std(axes)), LEAST_CONTRAST)
    difference = np.sqrt(np.square((ones - means[0]) - (others - means[1])).mean(axes))
    brightness = np.abs(means[0] - means[1]).ravel()
    return (difference <= MOST_CONTRAST * contrast) & (brightness <= MOST_BRIGHTNESS)


def join_pairs(pairs: np.ndarray, number: int) -> list[list[int]]:
    """Joins pairs of `number` images that are connected to groups."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (number, number))
    _, labels = connected_components(graph, directed=False)
    return group_equal(labels.tolist())
