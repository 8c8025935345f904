"""Images for pretraining: from folders or any registered data set, randomly cropped; damaged files are skipped."""

import functools
import logging
import math
import os
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from torch.utils.data import ConcatDataset

from ...config.checks import BANDS, check_names, check_pretraining_input
from ...errors import InputError
from ..detection.catalog import list_image_names
from ..image import DEFAULT, Decoding, read_crop
from ..stream import ErrorRaisingLoader, ErrorReturningMapper, build_stream_loader
from ..survey import log_file_kinds
from .folders import ImageFiles, list_images, register_image_folders
from .pages import ImagePages

logger = logging.getLogger(__name__)

# Images tried for one sample. With half of a data set damaged, all of them fail once in four billion samples.
MAX_ATTEMPTS = 32

FLIPS = {"none": None, "horizontal": -1, "vertical": -2}  # axes
ASPECT_RATIOS = (3 / 4, 4 / 3)  # smallest and largest width / height of a crop
LOG_ASPECT_RATIOS = torch.tensor(ASPECT_RATIOS).log().tolist()


def build_pretraining_dataset(cfg: CfgNode) -> ConcatDataset:
    """Lists the images of DATASETS.TRAIN as {"file_name", "image_id"}; its length is the number of images in an epoch.

    The names are those of DATASETS.IMAGE_FOLDERS or of any registered data set, whose annotations are left out.

    Raises:
        InputError: in all processes; see `register_image_folders`, `list_images` and `list_image_names`, or if the
            processes don't find the same images.
    """
    find, dataset = ErrorReturningMapper(_find_images), None
    for turn in (True, False):  # first the main process, then the others, which use its cache
        if comm.is_main_process() == turn:
            dataset = find(cfg)
        for error in comm.all_gather(dataset if isinstance(dataset, InputError) else None):
            if error:
                raise error
    dataset = cast(Any, dataset)
    digests = comm.all_gather([files.digest() for files in dataset.datasets])
    if digests.count(digests[0]) < len(digests):
        raise InputError("The images of DATASETS.TRAIN are not the same for all processes: make their copies equal.")
    if comm.is_main_process():
        for name, files in zip(cfg.DATASETS.TRAIN, dataset.datasets, strict=True):
            log_file_kinds(name, files, cfg)
    return dataset


def build_pretraining_loader(
    cfg: CfgNode, start_iteration: int = 0, dataset: Sequence | ConcatDataset | None = None
) -> ErrorRaisingLoader:
    """Builds a loader of endless batches for pretraining, beginning with optimizer step `start_iteration`.

    A sample is what `PretrainingMapper` returns, and what `SkippingMapper` adds; a batch, what `stack_images` returns.

    Args:
        cfg: as for `build_stream_loader`
        start_iteration: counted from 0
        dataset: from `build_pretraining_dataset`, if it is built already

    Raises:
        InputError: a data set, or a key, that can't be used. While iterating: too few images can be read.
    """
    mapper = PretrainingMapper(cfg)
    if dataset is None:
        dataset = build_pretraining_dataset(cfg)
    return build_stream_loader(cfg, dataset, SkippingMapper(mapper, dataset), start_iteration, stack_images)


def stack_images(samples: list[dict]) -> dict[str, Any]:
    """Makes a batch whose images are one tensor, which a worker hands over as one open file.

    Returns:
        "images", (N, C, size, size) uint8, "file_names", N of them, and "skipped", the (name, reason) of the files
        that could not be read
    """
    return {
        "images": torch.stack([sample["image"] for sample in samples]),
        "file_names": [sample["file_name"] for sample in samples],
        "skipped": [skipped for sample in samples for skipped in sample["skipped"]],
    }


class PretrainingMapper:
    """A random crop of an image, resized to a square and perhaps flipped (the paper's augmentation, after MAE's).

    What the crop leaves out is not converted, and a JPEG is decoded at the resolution that the square needs.

    ``PretrainingMapper(cfg)`` builds it from a configuration.
    """

    @configurable
    def __init__(
        self, *, image_format: str, size: int, scale: Sequence[float], flip: str, decoding: Decoding = DEFAULT
    ):
        """Stores the values of the configuration.

        Args:
            image_format: of `read_image`
            size: side of the square in pixels
            scale: smallest and largest area of the crop, as fractions of the image's
            flip: horizontal, vertical or none
            decoding: of `read_image`
        """
        self.decoding = decoding
        self.image_format, self.size, self.scale, self.axis = image_format, size, scale, FLIPS[flip]

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        check_pretraining_input(cfg)
        return {
            "image_format": cfg.INPUT.FORMAT,
            "size": cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE,
            "scale": cfg.INPUT.PRETRAIN_CROP_SCALE,
            "flip": cfg.INPUT.RANDOM_FLIP,
            "decoding": Decoding.from_config(cfg),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Reads an image, crops, resizes and perhaps flips it.

        Args:
            dataset_dict: one image in Detectron2's format

        Returns:
            "image", (C, size, size) uint8, "file_name", and "height" and "width" of the file's image in pixels

        Raises:
            InputError: see `read_image`.
        """
        name = dataset_dict["file_name"]
        choose = functools.partial(choose_crop, scale=self.scale)
        page = dataset_dict.get("page", 0)
        pixels, (height, width) = read_crop(name, self.image_format, choose, self.size, self.decoding, page)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        image = F.interpolate(image[None], (self.size, self.size), mode="bicubic", antialias=True)[0]
        if self.axis is not None and torch.rand(1) < 0.5:
            image = image.flip(self.axis)
        return {"image": image, "file_name": name, "height": height, "width": width}


def choose_crop(height: int, width: int, scale: Sequence[float]) -> tuple[int, int, int, int]:
    """Draws top, left, height and width of a random part of an image of this size.

    With the same draws, torchvision's RandomResizedCrop chooses the same part; its many small tensor operations take a
    twentieth of the time of a sample.

    Args:
        height: of the image, in pixels
        width: of the image, in pixels
        scale: smallest and largest area of the part, as fractions of the image's
    """
    for _ in range(10):
        area = height * width * torch.empty(1).uniform_(*scale).item()
        aspect_ratio = torch.empty(1).uniform_(*LOG_ASPECT_RATIOS).exp().item()
        part_width, part_height = round(math.sqrt(area * aspect_ratio)), round(math.sqrt(area / aspect_ratio))
        if 0 < part_width <= width and 0 < part_height <= height:
            top = int(torch.randint(height - part_height + 1, (1,)))
            left = int(torch.randint(width - part_width + 1, (1,)))
            return top, left, part_height, part_width
    low, high = ASPECT_RATIOS  # the whole image, or the middle of one that is too long
    part_width = min(width, round(height * high))
    part_height = min(height, round(width / low))
    return (height - part_height) // 2, (width - part_width) // 2, part_height, part_width


class SkippingMapper:
    """A mapper that replaces an image that can't be read by another, drawn at random.

    It draws from `random` alone, so in a `SampleStream` the replacement is a function of seed and position, too.

    Args:
        mapper: makes a dict of an item, or raises InputError
        dataset: where replacements are drawn from
    """

    def __init__(self, mapper: Callable[[dict], dict], dataset: Sequence[dict] | ConcatDataset):
        self.mapper, self.dataset = mapper, dataset

    def __call__(self, item: dict) -> dict:
        """Returns the mapper's dict with "skipped", the list of the files that could not be read: (name, reason).

        Raises:
            InputError: none of MAX_ATTEMPTS images can be read.
        """
        skipped: list[tuple[str, str]] = []
        reason = None
        while len(skipped) < MAX_ATTEMPTS:
            try:
                return self.mapper(item) | {"skipped": skipped}
            except InputError as error:
                skipped.append((item["file_name"], str(error).removeprefix(f"{item['file_name']} ")))
                reason = error
            item = self.dataset[random.randrange(len(self.dataset))]
        raise InputError(f"None of {MAX_ATTEMPTS} images drawn can be read; the last: {reason}") from reason


class SkippedImageLog:
    """A text file of the images that could not be read, each once: a line is a name, a tab and the reason.

    Several processes may share it, and a resumed run continues it, also one whose lines are names alone.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path
        self._names = self._read()

    @property
    def count(self) -> int:
        """The number of names in the file."""
        return len(self._read())

    def update(self, entries: Iterable[tuple[str, str]]) -> None:
        """Adds the (name, reason) of what `SkippingMapper` skipped."""
        skipped = {_encode(name): _encode(reason) for name, reason in entries}
        if skipped.keys() <= self._names:
            return
        self._names = self._read()  # other processes may have added to it
        new = sorted(skipped.keys() - self._names)
        for name in new:
            shown, reason = (text.decode(errors="backslashreplace") for text in (name, skipped[name]))
            logger.warning("%s is skipped: it %s (%s names all of them)", shown, reason, self.path)
        os.makedirs(os.path.dirname(self.path) or os.curdir, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:  # all lines in one write
            file.write(b"".join(name + b"\t" + skipped[name] + b"\n" for name in new))
        self._names.update(new)

    def _read(self) -> set[bytes]:
        try:
            with open(self.path, "rb") as file:
                return {line.partition(b"\t")[0] for line in file.read().split(b"\n")} - {b""}
        except FileNotFoundError:
            return set()


def _encode(text: str) -> bytes:
    return os.fsencode(text).replace(b"\n", rb"\n").replace(b"\t", rb"\t")


def _find_images(cfg: CfgNode) -> ConcatDataset:
    check_names("DATASETS.TRAIN", cfg.DATASETS.TRAIN)
    register_image_folders([entry for entry in cfg.DATASETS.IMAGE_FOLDERS if _is_wanted(entry, cfg.DATASETS.TRAIN)])
    parts: list[Any] = [_list_image_files(name, cfg) for name in cfg.DATASETS.TRAIN]
    return ConcatDataset(parts)


def _is_wanted(entry: object, names: Sequence[str]) -> bool:
    """Whether to register an entry: a missing folder matters only if it is named; other invalid entries are errors."""
    pair = isinstance(entry, (list, tuple)) and len(entry) == 2
    return not pair or entry[0] in names or os.path.isdir(str(entry[1]))


def _list_image_files(name: str, cfg: CfgNode) -> ImageFiles | ImagePages:
    folder = MetadataCatalog.get(name).get("image_folder")
    if folder:
        files = list_images(folder, arrays=cfg.INPUT.FORMAT == BANDS)
    else:
        files = ImageFiles.from_names(list_image_names(name, cfg))
    if not cfg.INPUT.ALL_PAGES:
        return files
    pages = ImagePages.from_files(files)
    logger.info(f"{name}: {len(files):,} files with {len(pages):,} pages or frames, each an image (INPUT.ALL_PAGES)")
    return pages
