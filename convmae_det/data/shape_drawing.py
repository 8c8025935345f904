"""Draws the images of the shapes data set: shapes that cover one another, on textured backgrounds.

S: side of the square image in pixels; F: `OVERSAMPLING`; P: points of an outline.
"""

import colorsys
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

# Corners of each category's outline, and the radius of every second corner where the others have radius 1.
OUTLINES = {"ellipse": (48, 1.0), "rectangle": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.5)}
CATEGORIES = tuple(OUTLINES)

OVERSAMPLING = 4  # shapes are drawn at 4 times the resolution and averaged
OBJECTS = (1, 5)  # shapes in an image, from the least to the most that are tried to be placed
MIN_DIAMETER, MAX_DIAMETER = 24, 0.7  # pixels; of the image's side. Where there are many shapes, they are smaller:
MIN_SPACING, MAX_SPACING = 0.9, 1.6  # diameters as multiples of the spacing that the most shapes would have on a grid
MIN_VISIBLE_AREA = 30  # pixels; a shape with less visible area is not drawn,
MIN_VISIBLE_FRACTION = 0.75  # nor is one of which less is seen: its class should be told at a glance
PLACEMENT_TRIES = 20

MUTED, VIVID = ((0.05, 0.45), (0.25, 0.95)), ((0.5, 1.0), (0.5, 1.0))  # saturation and value of colours
FINE, WIDE = (8, 24), (24, 64)  # pixels; periods of the patterns of shapes and backgrounds


class Shape(NamedTuple):
    """A shape in an image, by its whole outline."""

    category: str
    outline: np.ndarray  # (P, 2) float64, x and y in pixels

    @property
    def area(self) -> float:
        """Area of the whole shape in pixels, visible or not (shoelace formula)."""
        x, y = self.outline.T
        return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


class Patch(NamedTuple):
    """The part of an image that holds all that is seen of a shape.

    Attributes:
        top: of its pixels
        left: of its pixels
        share: (h, w) float64, of each pixel the part in which the shape is on top
    """

    top: int
    left: int
    share: np.ndarray

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the image."""
        height, width = self.share.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def has_few(objects: tuple[int, int]) -> bool:
    """Whether there are so few shapes in an image that each is drawn on the whole of it: others would take too long."""
    return objects[1] <= OBJECTS[1]


def compute_spacing(size: int, objects: tuple[int, int]) -> float:
    """Computes the distance in pixels of as many shapes as there may be, if they stood on a grid."""
    return size / math.sqrt(objects[1])


def sample_shape(rng: np.random.Generator, size: int, category: str, spacing: float) -> Shape:
    """Samples a shape of random size, proportions, angle and position; its centre lies in the image."""
    corners, second_radius = OUTLINES[category]
    angles = np.pi / corners * (1 + 2 * np.arange(corners))
    radii = np.where(np.arange(corners) % 2, second_radius, 1.0)
    squashed = np.stack([np.cos(angles), rng.uniform(0.6, 1) * np.sin(angles)], axis=1) * radii[:, None]
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    # uniform in the logarithm, so that all levels of a feature pyramid are used
    smallest, largest = min(MIN_DIAMETER, MIN_SPACING * spacing), min(MAX_DIAMETER * size, MAX_SPACING * spacing)
    diameter = np.exp(rng.uniform(np.log(smallest), np.log(largest)))
    return Shape(category, rng.uniform(0, size, 2) + diameter / 2 * squashed @ rotation)


def place_shapes(rng: np.random.Generator, size: int, objects: tuple[int, int]) -> tuple[list[Shape], np.ndarray]:
    """Places shapes on top of each other so that every shape stays recognisable.

    Args:
        objects: between how many shapes, drawn at random, are tried to be placed

    Returns:
        The shapes, bottom first, and the owners (S·F, S·F) int32: 0 for background, i + 1 where shape i is on top.
    """
    shapes, owners = [], Image.new("I", (size * OVERSAMPLING, size * OVERSAMPLING))
    visible, needed = np.zeros(objects[1] + 1), np.zeros(objects[1] + 1)  # pixels, of each owner
    spacing = compute_spacing(size, objects)
    for _ in range(rng.integers(objects[0], objects[1] + 1)):
        category = CATEGORIES[rng.integers(len(CATEGORIES))]  # before the tries, or bulky ones would be rarer
        for _ in range(PLACEMENT_TRIES):
            shape, number = sample_shape(rng, size, category, spacing), len(shapes) + 1
            box, window = _draw_over(owners, shape, number, whole=has_few(objects))
            change = _count(window, number) - _count(owners.crop(box), number)
            touched = np.flatnonzero(change[1:]) + 1
            needed[number] = max(MIN_VISIBLE_AREA, MIN_VISIBLE_FRACTION * shape.area)
            if change[number] and np.all(visible[touched] + change[touched] >= needed[touched]):
                visible[: number + 1] += change
                owners.paste(window, box)
                shapes.append(shape)
                break
    return shapes, np.asarray(owners)


def _draw_over(
    owners: Image.Image, shape: Shape, number: int, whole: bool
) -> tuple[tuple[int, int, int, int], Image.Image]:
    """Draws a shape on a copy of that part of the owners which it may cover; on one of the `whole`, rounding differs.

    Returns:
        Left, top, right and bottom of the part, and the part
    """
    points = np.trunc(shape.outline * OVERSAMPLING).astype(int)  # as Pillow does
    left, top = np.clip(points.min(0), 0, owners.width - 1).tolist()
    right, bottom = np.clip(points.max(0) + 1, 1, owners.width).tolist()
    box = left, top, right, bottom
    window = owners.copy() if whole else owners.crop(box)
    corner = (0, 0) if whole else (left, top)
    ImageDraw.Draw(window).polygon((points - corner).ravel().tolist(), fill=number)
    return box, window.crop(box) if whole else window


def _count(owners: Image.Image, number: int) -> np.ndarray:
    """Counts the pixels of each owner, (number + 1,) float64."""
    return np.bincount(np.asarray(owners).ravel(), minlength=number + 1) / OVERSAMPLING**2


def find_patches(owners: np.ndarray, shapes: list[Shape]) -> list[Patch]:
    """Finds where each shape is seen.

    Args:
        owners: from `place_shapes`
        shapes: from `place_shapes`
    """
    size, patches = len(owners) // OVERSAMPLING, []
    for label, shape in enumerate(shapes, start=1):
        left, top = np.clip(np.floor(shape.outline.min(0)) - 1, 0, size - 1).astype(int).tolist()
        right, bottom = np.clip(np.ceil(shape.outline.max(0)) + 1, 1, size).astype(int).tolist()
        fine = owners[top * OVERSAMPLING : bottom * OVERSAMPLING, left * OVERSAMPLING : right * OVERSAMPLING] == label
        share = fine.reshape(bottom - top, OVERSAMPLING, right - left, OVERSAMPLING).mean(axis=(1, 3))
        patches.append(Patch(top, left, share))
    return patches


def generate_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Generates smooth noise of several octaves, weaker the finer they are: (S, S) float64 in [0, 1]."""
    field = np.zeros((size, size))
    for octave in range(2, 7):
        cells = Image.fromarray(rng.random((2**octave, 2**octave), dtype=np.float32))
        field += np.asarray(cells.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64) / 2**octave
    return (field - field.min()) / np.ptp(field)


def generate_texture(rng: np.random.Generator, size: int, periods: tuple[float, float]) -> np.ndarray:
    """Generates stripes, a checkerboard, a gradient or nothing, with noise added: (S, S) float64 in [0, 1].

    A stripe and the gap beside it take a number of pixels between the two `periods`.
    """
    turn, period = rng.uniform(0, np.pi), rng.uniform(*periods)
    y, x = np.mgrid[:size, :size] + rng.uniform(0, period, (2, 1, 1))
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    waves = np.sin(2 * np.pi / period * along), np.sin(2 * np.pi / period * across)
    pattern = [
        0.5 + 1.5 * waves[0],
        0.5 + 3.0 * waves[0] * waves[1],
        (along - along.min()) / np.ptp(along),
        np.full_like(along, 0.5),
    ][rng.integers(4)]
    return 0.6 * np.clip(pattern, 0, 1) + 0.4 * generate_noise(rng, size)


def choose_contrasting_colour(rng: np.random.Generator, others: list, saturation: tuple, value: tuple) -> np.ndarray:
    """Chooses, from six random colours, the one that differs most from `others`: (3,) float64 RGB in [0, 1]."""
    colours = [
        np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))) for _ in range(6)
    ]
    return max(colours, key=lambda colour: min((np.abs(colour - other).sum() for other in others), default=0))


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws a texture between two muted colours: (S, S, 3) float64 in [0, 1]."""
    ground = choose_contrasting_colour(rng, [], *MUTED)
    figure = choose_contrasting_colour(rng, [ground], *MUTED)
    return ground + 0.6 * generate_texture(rng, size, WIDE)[..., None] * (figure - ground)


def draw_image(
    rng: np.random.Generator, size: int, objects: tuple[int, int] = OBJECTS
) -> tuple[np.ndarray, list[Shape], list[Patch]]:
    """Draws one image.

    Returns:
        The image (S, S, 3) uint8 RGB, its shapes, bottom first, and where each is seen.
    """
    shapes, owners = place_shapes(rng, size, objects)
    patches = find_patches(owners, shapes)
    image = draw_background(rng, size)
    ground, colours = image.mean(axis=(0, 1)), []
    covered = np.zeros((size, size))
    for patch in patches:
        covered[patch.place] += patch.share
    image *= (1 - covered)[..., None]
    for patch in patches:
        # the background, and as many shapes as an image has at most where there are few
        colours.append(choose_contrasting_colour(rng, [ground, *colours[-OBJECTS[1] :]], *VIVID))
        shade = 0.75 + 0.25 * _shade_patch(rng, patch, size if has_few(objects) else 0)
        image[patch.place] += (patch.share * shade)[..., None] * colours[-1]
    return (image * 255).round().astype(np.uint8), shapes, patches


def _shade_patch(rng: np.random.Generator, patch: Patch, size: int) -> np.ndarray:
    """Generates the texture of a shape: a part of that of an image of `size` pixels or, if 0, of its own; (h, w)."""
    if size:
        return generate_texture(rng, size, FINE)[patch.place]
    height, width = patch.share.shape
    return generate_texture(rng, max(height, width, 2), FINE)[:height, :width]
