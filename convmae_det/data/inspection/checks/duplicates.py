"""Checks of images that are in the data more than once."""

from collections.abc import Sequence

import numpy as np

from ..findings import Example, Finding, Findings, Severity, format_count, is_or_are
from ..inspection import Inspection
from ..likeness import group_equal, join_pairs
from ..splits import TEST, TRAIN

LEAK = (
    "what is measured on them says nothing about new images: take them out of one of the two, and split the rest by "
    "scene, patient or film, not image by image"
)


def images_in_both_parts(data: Inspection) -> Findings:
    """Test images that training sees, byte for byte."""
    train, test = (data.paths_of_roles[role] for role in (TRAIN, TEST))
    by_digest = {data.files[path].digest: path for path in data.readable if path in train}
    leaked = [path for path in data.readable if path in test and data.files[path].digest in by_digest]
    pairs = [(by_digest[data.files[path].digest], path) for path in leaked]
    if leaked:
        yield Finding(
            Severity.ERROR,
            f"{format_count(len(leaked), 'test image', len(test))} {is_or_are(len(leaked))} also in the training data, "
            "byte for byte",
            LEAK,
            len(leaked),
            [Example(pair if pair[0] != pair[1] else pair[:1]) for pair in pairs],
        )


def similar_images_in_both_parts(data: Inspection) -> Findings:
    """Test images that look like training images: copies of other size or compression, neighbours in a film."""
    test = data.paths_of_roles[TEST]
    pairs = [pair for pair in data.similar_pairs if (pair[0] in test) != (pair[1] in test)]
    partners = {one if one in test else other: other if one in test else one for one, other in pairs}
    if partners:
        yield Finding(
            Severity.WARNING,
            f"{format_count(len(partners), 'test image', len(test))} {'looks' if len(partners) == 1 else 'look'} "
            "almost like a training image",
            f"look at the pairs; if they show the same, {LEAK}",
            len(partners),
            [Example((train_path, path)) for path, train_path in sorted(partners.items())],
        )


def duplicate_images(data: Inspection) -> Findings:
    """Copies of an image in the same part, byte for byte, or one file that is listed several times."""
    for split in data.loaded:
        paths = [path for path in split.paths if path in data.files and not data.files[path].error]
        groups = group_equal([data.files[path].digest for path in paths])
        if groups:
            copies = sum(len(group) - 1 for group in groups)
            yield Finding(
                Severity.WARNING,
                f"{format_count(copies, 'image', len(split.paths))} of {split.name} {is_or_are(copies)} "
                f"{'a copy' if copies == 1 else 'copies'} of others, byte for byte",
                "remove the copies, or join their annotations: they count several times, and contradict each other "
                "where they are annotated differently",
                copies,
                [_describe_copies([paths[index] for index in group]) for group in groups],
            )


def _describe_copies(paths: Sequence[str]) -> Example:
    different = tuple(dict.fromkeys(paths))
    return Example(different, f"listed {len(paths)} times" if len(different) < len(paths) else "")


def similar_images(data: Inspection) -> Findings:
    """Images of the same part that look alike."""
    for role in (TRAIN, TEST):
        paths = data.paths_of_roles[role]
        chosen = [pair for pair in data.similar_pairs if pair[0] in paths and pair[1] in paths]
        names = sorted({path for pair in chosen for path in pair})
        places = {path: index for index, path in enumerate(names)}
        pairs = np.array([[places[one], places[other]] for one, other in chosen], int).reshape(-1, 2)
        groups = join_pairs(pairs, len(names)) if names else []
        if groups:
            yield Finding(
                Severity.NOTE,
                f"{format_count(len(names), f'{role}ing image', len(paths))} look almost like others, in "
                f"{format_count(len(groups), 'group')}",
                "neighbours in a film, or copies, add little to the data: some of them may be left out"
                if role == TRAIN
                else "each group counts several times in what is measured",
                len(names),
                [Example(tuple(names[index] for index in group)) for group in groups],
            )
