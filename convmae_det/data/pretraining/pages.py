"""Files of several pages or frames, each page an image of its own."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from ..shards.images import ShardImages
from ..survey import THREADS, look_at_file
from .folders import ImageFiles

# Of files that may have pages. A photograph's second picture, in a .jpg, is no page; so these are not looked at.
PAGED = (".apng", ".avif", ".gif", ".png", ".psd", ".tif", ".tiff", ".webp", "")


class ImagePages(Sequence[dict]):
    """Pages in Detectron2's format: item i is {"file_name": str, "image_id": i, "page": int}, created on access."""

    def __init__(self, files: ImageFiles | ShardImages, counts: Sequence[int]):
        """Takes files and the number of pages of each."""
        self.files, self.ends = files, torch.tensor(counts, dtype=torch.int64).cumsum(0)

    @classmethod
    def from_files(cls, files: ImageFiles | ShardImages) -> "ImagePages":
        """Counts the pages; a file that can't be read has one, and is reported when it is."""
        names = (file["file_name"] for file in files)
        with ThreadPoolExecutor(THREADS) as threads:
            return cls(files, list(threads.map(count_pages, names)))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        file = int(torch.searchsorted(self.ends, index, right=True))
        page = index - (int(self.ends[file - 1]) if file else 0)
        return self.files[file] | {"image_id": index, "page": page}

    def digest(self) -> str:
        """Computes a hash of the names, their order and the numbers of pages."""
        return hashlib.sha256(self.files.digest().encode() + self.ends.numpy().tobytes()).hexdigest()


def count_pages(name: str) -> int:
    """Counts the pages or frames of a file."""
    return look_at_file(name, "RGB").pages if os.path.splitext(name)[1].lower() in PAGED else 1
