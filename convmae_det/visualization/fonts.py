"""Text of any script, written in a font that has its letters; where none is installed, in Latin ones."""

import functools
import logging
import os
from collections.abc import Callable
from typing import NamedTuple

import matplotlib
from PIL import ImageFont

# matplotlib's own font: what Pillow falls back to lacks most letters
FONT = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
UNFIT = ("LastResort", "Color")  # in names of fonts: those that draw a box for any letter, or bitmaps
PLAIN = ("Sans", "Regular")  # in names of fonts that are tried before others
logger = logging.getLogger(__name__)


class Writing(NamedTuple):
    """A text as it is drawn."""

    text: str
    font: ImageFont.FreeTypeFont

    @property
    def width(self) -> float:  # pixels
        return self.font.getlength(self.text)


def write(text: str, size: int, room: float | None = None) -> Writing:
    """Chooses how a text is written.

    Args:
        size: of the letters, in pixels
        room: pixels; longer texts end in …
    """
    text, path = choose_font(text)
    writing = Writing(text, _load(path, size))
    while room is not None and writing.width > room and len(text) > 1:
        text = text[:-1]
        writing = writing._replace(text=f"{text.rstrip()}…")
    return writing


@functools.lru_cache(maxsize=10_000)
def choose_font(text: str) -> tuple[str, str]:
    """Chooses a font that has all letters of a text, or most.

    Returns:
        The text, with Latin letters for those that no font has, and the path of the font
    """
    needed = {ord(letter) for letter in text if not letter.isspace()}
    path, missing = FONT, _find_missing(FONT, needed)
    for other in _list_fonts() if missing else ():
        if len(lacks := _find_missing(other, needed)) < len(missing):
            path, missing = other, lacks
    if not missing:
        return text, path
    romanised = "".join(_romanise(letter) if ord(letter) in missing else letter for letter in text)
    logger.warning(
        f"no font here has all letters of “{text}”, which pictures write as “{romanised}”: install one that has them, "
        "such as the package fonts-noto-cjk for Chinese, Japanese and Korean"
    )
    return romanised, path


def _romanise(letter: str) -> str:
    from anyascii import anyascii

    return anyascii(letter) or f"U+{ord(letter):04X}"


@functools.cache
def _list_fonts() -> list[str]:
    """Lists the installed fonts, plain ones first."""
    from matplotlib.font_manager import findSystemFonts

    paths = [path for path in findSystemFonts() if not any(word in path for word in UNFIT)]
    return sorted(paths, key=lambda path: (-sum(word in os.path.basename(path) for word in PLAIN), path))


def _find_missing(path: str, codes: set[int]) -> set[int]:
    find = _open(path)
    return {code for code in codes if not find(code)}


@functools.cache
def _open(path: str) -> Callable[[int], int]:
    """Gives what finds the glyph of a letter in a font, 0 where there is none."""
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(path).get_char_index
    except (OSError, RuntimeError):  # not a font, or a damaged one
        return lambda code: 0


@functools.lru_cache(maxsize=100)
def _load(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
