"""The images of tar shards, as data sets of Detectron2."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ...errors import InputError
from ..file_kinds import NOT_READ, list_suffixes
from ..pretraining.folders import ImageFiles, describe_left_out
from ..pretraining.registration import register_sources
from .index import SIBLINGS, Index, find_index
from .members import Member, Shard
from .places import Place, locate_shards

logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """What an entry of DATASETS.SHARDS says."""

    name: str
    patterns: tuple[str, ...]
    cache: str  # DATASETS.SHARD_CACHE


class ShardImages(Sequence[dict]):
    """Images in Detectron2's format: item i is {"file_name": Member, "image_id": i}, created on access.

    They come in the order of the shards and, in a shard, in that of the tar file. Workers share the arrays.
    """

    def __init__(self, places: Sequence[Place], shards: Sequence[Shard], indices: Sequence[Index]):
        """Takes shards, where they lie and what they hold."""
        self.places, self.shards = places, shards
        self.names = ImageFiles(np.concatenate([index.names for index in indices]))
        self.offsets = torch.from_numpy(np.concatenate([index.offsets for index in indices]))
        self.sizes = torch.from_numpy(np.concatenate([index.sizes for index in indices]))
        self.ends = torch.tensor([len(index.offsets) for index in indices]).cumsum(0)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict:
        item = self.names[index]
        index = item["image_id"]
        shard = int(torch.searchsorted(self.ends, index, right=True))
        name = f"{self.places[shard].name}:{item['file_name']}"
        member = Member(name, self.shards[shard], int(self.offsets[index]), int(self.sizes[index]))
        return {"file_name": member, "image_id": index}

    def digest(self) -> str:
        """Computes a hash of the names, their order, and where the images lie."""
        names = "\0".join(place.name for place in self.places)
        parts = (self.names.digest().encode(), names.encode(errors="surrogateescape"))
        arrays = (self.ends, self.offsets, self.sizes)
        return hashlib.sha256(b"\0".join([*parts, *(array.numpy().tobytes() for array in arrays)])).hexdigest()


def register_shards(entries: Sequence, cache: str = "") -> None:
    """Registers the images of tar shards as data sets of Detectron2; the shards are looked for when they are listed.

    Args:
        entries: pairs of a name and a path or address, or a list of these, as in DATASETS.SHARDS
        cache: folder for copies of remote shards, as DATASETS.SHARD_CACHE

    Raises:
        InputError: an entry that isn't such a pair, or a name used twice or by another data set.
    """
    register_sources("DATASETS.SHARDS", "shards", _read_entries(entries, cache), _load_dicts)


def _read_entries(entries: Sequence, cache: str) -> Iterator[tuple[str, Source]]:
    for entry in entries:
        pair = entry if isinstance(entry, (list, tuple)) and len(entry) == 2 else ("", "")
        name, patterns = pair[0], [pair[1]] if isinstance(pair[1], str) else pair[1]
        lists = isinstance(patterns, (list, tuple)) and len(patterns) > 0
        if not (lists and all(isinstance(word, str) and word for word in (name, *patterns))):
            raise InputError(
                f"DATASETS.SHARDS holds {entry!r}: make it a list of pairs, [[name, path/{{000..099}}.tar], ...]."
            )
        yield name, Source(name, tuple(patterns), cache)


def list_shard_images(source: Source, arrays: bool = False) -> ShardImages:
    """Lists the images in shards; copies those that lie elsewhere to this machine first. What is left out is logged.

    Args:
        source: as registered
        arrays: whether .npy files are images, too

    Raises:
        InputError: a shard that is missing, damaged or without images, or can't be copied.
    """
    places = locate_shards(source.name, source.patterns, source.cache)
    shards = [Shard.from_path(place.path) for place in places]
    suffixes = list_suffixes(arrays)
    with tqdm(shards, desc=f"Listing {source.name}", unit=" shards", delay=1, disable=None) as progress:
        indices = [find_index(shard, suffixes) for shard in progress]
    images = ShardImages(places, shards, indices)
    total = sum(shard.size for shard in shards)
    logger.info(f"{source.name}: {len(images):,} images in {len(shards):,} shards, {total / 1e9:.2f} GB")
    _log_left_out(source.name, places, indices)
    return images


def _log_left_out(name: str, places: Sequence[Place], indices: Sequence[Index]) -> None:
    left_out: dict[str, list] = {}
    for place, index in zip(places, indices, strict=True):
        for kind, (count, example) in json.loads(index.left_out.tobytes()).items():
            left_out.setdefault(kind, [0, f"{place.name}:{example}"])[0] += count
    if siblings := left_out.pop(SIBLINGS, None):
        logger.warning(
            f"{name}: left out {siblings[0]:,} images that have the name of another up to the first dot, as masks "
            f"have, such as {siblings[1]}"
        )
    if left_out:
        level = logging.WARNING if left_out.keys() & NOT_READ.keys() else logging.INFO
        logger.log(level, "%s: left out %s.", name, describe_left_out(left_out))


def _load_dicts(source: Source) -> list[dict]:
    return list(list_shard_images(source))
