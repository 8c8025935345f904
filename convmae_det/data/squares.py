"""The middles of images, squares or of another shape, in order and each once, without random augmentation."""

import functools
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from ..config.building import list_sides
from ..errors import InputError
from .image import DEFAULT, Decoding, read_crop
from .stream import ErrorRaisingLoader, ignore_signals, pack_batch

logger = logging.getLogger(__name__)

Size = int | Sequence[int]  # pixels: a side, or height and width


def read_square(
    name: str, size: Size, image_format: str = "RGB", decoding: Decoding = DEFAULT, page: int = 0
) -> torch.Tensor:
    """Reads the largest square, or part of another shape, in the middle of an image, resized.

    Args:
        name: of the file
        size: side of the result in pixels, or its height and width
        image_format: of `read_image`
        decoding: of `read_image`
        page: of `read_image`

    Returns:
        (channels, *size) uint8

    Raises:
        InputError: see `read_image`.
    """
    sides = list_sides(size)
    choose = functools.partial(_choose_middle, sides)
    pixels, _ = read_crop(name, image_format, choose, max(sides), decoding, page)
    middle = torch.from_numpy(pixels).permute(2, 0, 1)
    return F.interpolate(middle[None], sides, mode="bicubic", antialias=True)[0]


def _choose_middle(sides: tuple[int, int], height: int, width: int) -> tuple[int, int, int, int]:
    """The largest part of the shape of `sides`, height and width, in the middle of an image."""
    part_height = min(height, max(1, width * sides[0] // sides[1]))
    part_width = min(width, max(1, height * sides[1] // sides[0]))
    return (height - part_height) // 2, (width - part_width) // 2, part_height, part_width


class Squares(NamedTuple):
    """A batch of n images that could be read, and what could not."""

    indices: torch.Tensor  # (n,) int64: of the images in the data set
    images: torch.Tensor  # (n, channels, H, W) uint8; (0,) where n is 0
    skipped: list[tuple[str, str]]  # file and reason


class SquareDataset(Dataset):
    """Pairs of an index and the square of that image, or the InputError that says why it can't be read."""

    def __init__(self, images: Sequence[dict] | ConcatDataset, size: Size, image_format: str, decoding: Decoding):
        """Takes images in Detectron2's format; the rest is that of `read_square`."""
        self.images, self.size, self.image_format, self.decoding = images, size, image_format, decoding

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, str, torch.Tensor | InputError]:
        image = self.images[index]
        name = image["file_name"]
        try:
            return index, name, read_square(name, self.size, self.image_format, self.decoding, image.get("page", 0))
        except InputError as error:
            return index, name, error


def _stack(samples: list[tuple[int, str, torch.Tensor | InputError]]) -> Squares:
    read = [(index, square) for index, _, square in samples if isinstance(square, torch.Tensor)]
    failed = [
        (name, str(error).removeprefix(f"{name} ")) for _, name, error in samples if isinstance(error, InputError)
    ]
    images = torch.stack([square for _, square in read]) if read else torch.empty(0)
    return Squares(torch.tensor([index for index, _ in read], dtype=torch.int64), images, failed)


class SquareLoader:
    """Batches of Squares, over a part of the indices of a data set."""

    def __init__(self, dataset: SquareDataset, indices: Sequence[int], batch_size: int, workers: int = 0):
        """Takes what to read.

        Args:
            dataset: of the images
            indices: of those to read
            batch_size: images in a batch, in the last one perhaps fewer
            workers: processes that read
        """
        batches = [list(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size)]
        self.loader = ErrorRaisingLoader(
            DataLoader(
                dataset,
                batch_sampler=batches,
                num_workers=workers,
                collate_fn=_pack,
                worker_init_fn=ignore_signals,
                generator=torch.Generator(),  # not the one that a model draws from
            )
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Squares]:
        return iter(self.loader)


def _pack(samples: list) -> object:
    return pack_batch(samples, _stack)
