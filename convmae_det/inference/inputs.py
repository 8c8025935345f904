"""Finds the files and webcams that words on a command line stand for, and assigns image ids."""

import glob
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.pretraining.folders import list_images
from ..errors import InputError
from ..visualization import video


class Input(NamedTuple):
    """An image or video file, or a webcam by its number."""

    source: str | int
    file_name: str  # relative to the folder that all inputs share
    output_name: str  # of its picture or video, without suffix

    @property
    def is_video(self) -> bool:
        return isinstance(self.source, int) or self.source.lower().endswith(video.SUFFIXES)


def find_inputs(words: Sequence[str], output: str) -> list[Input]:
    """Finds the files, each once, that words on a command line stand for; never what an earlier run wrote to `output`.

    Args:
        words: image files, folders (searched at any depth), patterns such as photos/*.jpg, videos, numbers of webcams
        output: the folder that results are written to

    Raises:
        InputError: a word that stands for nothing, or an input in whose place a picture would be written.
    """
    if not words:
        raise InputError("no input is named: end the command line in images, folders, patterns, videos or webcams")
    output = os.path.realpath(output)
    sources = list(dict.fromkeys(source for word in words for source in _expand(word, output)))
    inputs = _assign_names(sources)
    for entry in inputs:
        target = os.path.join(output, entry.output_name) + (".mp4" if entry.is_video else ".jpg")
        if target in sources:
            raise InputError(f"--output {output} would replace {target} by a picture: choose another folder")
    return inputs


def _expand(word: str, output: str) -> list[str | int]:
    """Paths of files, or the number of a webcam."""
    if os.path.isfile(word):
        return [_resolve_path(word)]
    if os.path.isdir(word):
        found = [image["file_name"] for image in list_images(os.path.realpath(word), arrays=True)]
    elif word.isdecimal():
        return [int(word)]
    elif glob.has_magic(word) and (matches := sorted(glob.glob(word, recursive=True))):
        found = [path for match in matches if not _is_inside(match, output) for path in _expand_match(match, output)]
    else:
        problem = "matches no file" if glob.has_magic(word) else "doesn't exist"
        raise InputError(f"{word} {problem}: name an image, a folder, a pattern, a video or the number of a webcam")
    kept = [path for path in found if not _is_inside(path, output)]
    if not kept:
        raise InputError(f"{word} contains only files in --output {output}: choose another output folder")
    return kept


def _expand_match(match: str, output: str) -> list[str]:
    return [str(path) for path in _expand(match, output)] if os.path.isdir(match) else [_resolve_path(match)]


def _resolve_path(path: str) -> str:
    """Folders without links, as `list_images` gives them; a file that is a link keeps its own name."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _is_inside(path: str, folder: str) -> bool:
    return os.path.commonpath([os.path.realpath(path), folder]) == folder


def _assign_names(sources: Sequence[str | int]) -> list[Input]:
    """Assigns unique output names: files keep their folders, and their suffix where only that differs."""
    files = [source for source in sources if isinstance(source, str)]
    root = os.path.commonpath([os.path.dirname(path) for path in files]) if files else ""
    names = [os.path.relpath(x, root) if isinstance(x, str) else f"webcam{x}" for x in sources]
    stems = [os.path.splitext(name)[0] for name in names]
    count, taken = Counter(stems), set(names)
    outputs = [s if count[s] == 1 and s not in taken else name for name, s in zip(names, stems, strict=True)]
    return list(map(Input, sources, names, outputs))


def assign_image_ids(inputs: Sequence[Input]) -> Iterator[int]:
    """Yields the ids of the inputs, in their order: their file names if all are numbers, else 1, 2, …"""
    stems = [Path(entry.file_name).stem for entry in inputs]
    if all(stem.isdecimal() and not entry.is_video for stem, entry in zip(stems, inputs, strict=True)):
        numbers = list(map(int, stems))
        if len(set(numbers)) == len(numbers):
            return iter(numbers)
    return itertools.count(1)
