"""Checks of image files."""

import os

from ...file_kinds import SUFFIXES
from ...image import SIDEWAYS
from ...survey import describe_pages, describe_turned
from ..findings import Example, Finding, Findings, Severity, format_count, has_or_have, is_or_are
from ..inspection import Inspection


def missing_images(data: Inspection) -> Findings:
    for split in data.loaded:
        if missing := [path for path in split.paths if path in data.missing]:
            yield Finding(
                Severity.ERROR,
                f"{format_count(len(missing), 'image', len(split.paths))} of {split.name} "
                f"{is_or_are(len(missing))} listed, but {is_or_are(len(missing))} not there",
                "put them there, or take them out of the annotation file; training doesn't begin without them",
                len(missing),
                [Example((path,)) for path in missing],
            )


def unreadable_images(data: Inspection) -> Findings:
    for split in data.loaded:
        bad = [path for path in split.paths if path in data.files and data.files[path].error]
        if bad:
            yield Finding(
                Severity.ERROR,
                f"{format_count(len(bad), 'image', len(split.paths))} of {split.name} can't be read",
                "repair or replace them, or take them out of the data set",
                len(bad),
                [Example((path,), _say_reason(data.files[path].error, path)) for path in bad],
            )


def _say_reason(error: str, path: str) -> str:
    """Shortens the sentence of an InputError to what is wrong."""
    return error.removeprefix(path).strip().partition(": repair")[0]


def images_of_other_size(data: Inspection) -> Findings:
    for split in data.loaded:
        examples = []
        for path, (height, width) in zip(split.paths, split.sizes.tolist(), strict=True):
            file = data.files.get(path)
            if not height or file is None or file.error or (file.height, file.width) == (height, width):
                continue
            turned = file.kind.orientation in SIDEWAYS and (file.height, file.width) == (width, height)
            how = " once turned as its EXIF orientation says" if turned else ""
            examples.append(Example((path,), f"{file.width}×{file.height}{how}; annotated as {width}×{height}"))
        if examples:
            yield Finding(
                Severity.ERROR,
                f"{format_count(len(examples), 'image', len(split.paths))} of {split.name} "
                f"{has_or_have(len(examples))} another size than the annotations say",
                "annotate the images at the size that they have, or correct width and height; if photos are annotated "
                "as they are stored, set INPUT.IGNORE_EXIF True",
                len(examples),
                examples,
            )


def unlisted_images(data: Inspection) -> Findings:
    """Images beside those that a file lists. Data sets may share a folder."""
    listed = {path for split in data.loaded for path in split.paths}
    for root in dict.fromkeys(split.root for split in data.loaded if split.source and split.root):
        folders = {os.path.dirname(path) for path in listed if path.startswith(os.path.join(root, ""))}
        found = [os.path.join(folder, name) for folder in sorted(folders) for name in _list_image_names(folder)]
        if others := [path for path in found if path not in listed]:
            yield Finding(
                Severity.NOTE,
                f"{format_count(len(others), 'image')} in {root} {is_or_are(len(others))} in no annotation file",
                "annotate them, or use them for pretraining",
                len(others),
                [Example((path,)) for path in others],
            )


def _list_image_names(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    names = sorted(os.listdir(folder))
    return [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]


def turned_photos(data: Inspection) -> Findings:
    """Photos that an EXIF orientation turns, where nothing shows whether they were annotated so."""
    for split in data.loaded:
        if split.objects is None:
            continue
        kinds = [data.files[path].kind for path in split.paths if path in data.files]
        if sentence := describe_turned(kinds, len(kinds), data.cfg):
            turned = [Example((kind.name,), f"EXIF orientation {kind.orientation}") for kind in kinds if kind.is_turned]
            problem, _, advice = sentence.partition(": ")
            yield Finding(Severity.WARNING, f"in {split.name}, {problem}", advice, len(turned), turned)


def pages_of_files(data: Inspection) -> Findings:
    for split in data.loaded:
        kinds = [data.files[path].kind for path in split.paths if path in data.files]
        if sentence := describe_pages(kinds, len(kinds), data.cfg):
            paged = [Example((kind.name,), f"{kind.pages} pages") for kind in kinds if kind.pages > 1]
            problem, _, advice = sentence.partition("; ")
            yield Finding(Severity.NOTE, f"in {split.name}, {problem}", advice, len(paged), paged)


def what_reading_said(data: Inspection) -> Findings:
    """What training would log, too: depth of pixels, files that are no images, …"""
    for sentence in dict.fromkeys(data.said):
        yield Finding(Severity.NOTE, sentence.rstrip("."))
