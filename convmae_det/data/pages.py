"""Pages of image files: the frames that are pictures of their own, not smaller copies or masks of others.

Whatever is called a path may also be a file in a tar file, a `Member`.
"""

import os

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from .pixels import COPY_OR_MASK, open_tiff

SECOND_PICTURE = "MPO"  # photographs with a preview or a map of depth, which are no pages
KIND = 254  # TIFF's NewSubfileType
OLD_KIND, OLD_COPY = 255, 2  # SubfileType, its elder, and a value of it


def count_pages(path: str | os.PathLike, image: Image.Image) -> int:
    """Counts the pages of an open image file."""
    frames = 1 if image.format == SECOND_PICTURE else getattr(image, "n_frames", 1)
    return len(_find_pages(path)) if image.format == "TIFF" and frames > 1 else frames


def go_to_page(path: str | os.PathLike, image: Image.Image, page: int) -> None:
    """Lets an open image file show a page, counted from 0.

    Raises:
        EOFError: it has fewer.
    """
    if isinstance(image, TiffImageFile) and (page or _is_copy(image)):
        pages = _find_pages(path)
        if page >= len(pages):
            raise EOFError(f"it has no page {page + 1}")
        page = pages[page]
    if page:
        image.seek(page)


def _is_copy(image: TiffImageFile) -> bool:
    """Whether the first frame of a TIFF is a thumbnail, say."""
    tags = image.tag_v2
    return bool(tags.get(KIND, 0) & COPY_OR_MASK) or tags.get(OLD_KIND) == OLD_COPY


def _find_pages(path: str | os.PathLike) -> list[int]:
    """Finds the frames of a TIFF that are pages; the first, if the file says of none that it is one."""
    with open_tiff(path) as file:
        frames = [number for number, frame in enumerate(file.pages) if not frame.subfiletype & COPY_OR_MASK]
    return frames or [0]
