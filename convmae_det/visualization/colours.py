"""The colour of a class: the same in every picture, chart and page, as a function of its index alone."""

import functools

import numpy as np

FIRST = ("#2f7ff5", "#ff8c1a", "#1fb866", "#f0389b", "#8b5cf6", "#f2c200", "#00c2d1", "#e5352b")
NUMBER = 200  # colours that are told apart; after them they come again
LEVELS = 16  # of red, green and blue, among which colours are looked for
LIGHTNESS = (0.55, 0.88)  # of Oklab: seen on dark images as on bright ones
CHROMA = 0.12  # of Oklab, at least: photos are mostly greyer
LIGHTNESS_WEIGHT = 0.6  # of a difference in lightness against one in hue, by which objects are told apart more easily
WHITE_TEXT_BELOW = 0.65  # lightness of a ground

# Oklab (B. Ottosson, 2020): from linear RGB to cones, from their cubic roots to lightness, green–red, blue–yellow.
TO_CONES = np.array(((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
                     (0.0883024619, 0.2817188376, 0.6299787005)))  # fmt: skip
TO_LAB = np.array(((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
                   (0.0259040371, 0.7827717662, -0.8086757660)))  # fmt: skip


def class_colour(index: int) -> tuple[int, int, int]:
    """Chooses the colour of a class, RGB in 0–255: as far as can be from those of the classes before."""
    red, green, blue = _list_colours()[index % NUMBER].tolist()
    return red, green, blue


def text_colour(ground: tuple[int, int, int]) -> str:
    """Chooses white or black, whichever is easier to read on a ground, RGB in 0–255."""
    return "white" if _convert_to_oklab(np.array(ground))[0] < WHITE_TEXT_BELOW else "black"


@functools.cache
def _list_colours() -> np.ndarray:
    """Lists (NUMBER, 3) uint8: eight that go well together, then each time the one farthest from all so far."""
    grid = np.linspace(0, 255, LEVELS).round()
    candidates = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), -1).reshape(-1, 3)
    lab = _convert_to_oklab(candidates)
    kept = (lab[:, 0] > LIGHTNESS[0]) & (lab[:, 0] < LIGHTNESS[1]) & (np.hypot(lab[:, 1], lab[:, 2]) > CHROMA)
    candidates, places = candidates[kept], lab[kept] * (LIGHTNESS_WEIGHT, 1, 1)
    colours = [np.array(bytearray.fromhex(text[1:]), dtype=float) for text in FIRST]
    distances = np.full(len(places), np.inf)
    for number in range(NUMBER):
        if number == len(colours):
            colours.append(candidates[distances.argmax()])
        place = _convert_to_oklab(colours[number]) * (LIGHTNESS_WEIGHT, 1, 1)
        distances = np.minimum(distances, np.linalg.norm(places - place, axis=1))
    return np.array(colours, dtype=np.uint8)


def _convert_to_oklab(rgb: np.ndarray) -> np.ndarray:
    """Converts (…, 3) sRGB in 0–255 to (…, 3) lightness, green–red, blue–yellow."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T
