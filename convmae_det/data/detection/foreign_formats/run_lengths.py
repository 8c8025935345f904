"""Masks as other tools pack them, unpacked to pixels."""

from collections.abc import Sequence

import numpy as np

SIZES = 4  # how many lengths of counts a packed mask chooses from


def unpack_rows(counts: Sequence[int], width: int, height: int) -> np.ndarray:
    """Unpacks a mask of CVAT's, counts of pixels row by row, those outside the object first: (height, width) bool.

    Raises:
        ValueError: the counts are not those of a mask of this size.
    """
    lengths = np.asarray(counts, int)
    if (lengths.size and lengths.min() < 0) or lengths.sum() != width * height:
        raise ValueError(f"its run lengths don't add up to its {width}×{height} pixels")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)


def unpack_brush(data: Sequence[int], width: int, height: int) -> np.ndarray:
    """Unpacks a mask of Label Studio's brush: (height, width) uint8, opacity.

    It packs values, here red, green, blue and opacity of each pixel, as a stream of bits: their number (32 bits), the
    bits of a value less 1 (5), four lengths of counts less 1 (4 each); then runs: whether all its values are the same
    (1), which of the four lengths its count has (2), the number of its values less 1, and one value or all of them.

    Args:
        data: the bytes
        width: of the image, in pixels
        height: of the image

    Raises:
        ValueError: it is cut off, or of another size.
    """
    bits = np.unpackbits(np.asarray(data, np.uint8))
    reader = _Bits(bits)
    total, word = reader.read(32), reader.read(5) + 1
    if total != width * height * 4 or word > 8:
        raise ValueError(f"its mask has {total // 4} pixels, but its image of {width}×{height} has {width * height}")
    lengths = [reader.read(4) + 1 for _ in range(SIZES)]
    values, start = np.zeros(total, np.uint8), 0
    while start < total:
        is_run = reader.read(1)
        stop = start + 1 + reader.read(lengths[reader.read(2)])
        if stop > total:
            raise ValueError("its mask is damaged: it goes on behind its end")
        values[start:stop] = reader.read(word) if is_run else reader.read_words(stop - start, word)
        start = stop
    return values.reshape(height, width, 4)[:, :, 3]


class _Bits:
    """Reads whole numbers from a stream of bits, highest bit first."""

    def __init__(self, bits: np.ndarray):
        self._bits, self._position = bits, 0

    def read(self, count: int) -> int:
        return int(self.read_words(1, count)[0])

    def read_words(self, words: int, count: int) -> np.ndarray:
        """Reads several numbers of `count` bits each: (words,) int64.

        Raises:
            ValueError: there are no more bits.
        """
        end = self._position + words * count
        if end > len(self._bits):
            raise ValueError("its mask is damaged: it is cut off")
        part = self._bits[self._position : end].reshape(words, count)
        self._position = end
        return part.astype(np.int64) @ (1 << np.arange(count - 1, -1, -1, dtype=np.int64))
