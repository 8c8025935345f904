"""Checks of classes, and of how many objects or images each has."""

import re
from collections import Counter

from ..findings import Finding, Findings, Severity, format_count, has_or_have, join_names
from ..inspection import Inspection
from ..splits import TEST, TRAIN

FEW = 10  # objects or images of a class in the training data


def count_by_class(data: Inspection, role: str) -> Counter[str]:
    """Counts the objects, or the images, of each class in the data sets of a role."""
    counts: Counter[str] = Counter()
    for split in data.of_role(role):
        for name, count in zip(split.classes, split.counts.tolist(), strict=True):
            counts[name] += count
    return counts


def different_categories(data: Inspection) -> Findings:
    """Data sets whose classes are not the same, or not in the same order."""
    with_classes = [split for split in data.loaded if split.classes]
    for split in with_classes[1:]:
        first = with_classes[0]
        if split.classes == first.classes or (split.labels is not None and set(split.classes) < set(first.classes)):
            continue
        only = [name for name in split.classes if name not in first.classes]
        lacking = [name for name in first.classes if name not in split.classes]
        parts = [f"{first.name} lacks {join_names(only)}"] if only else []
        parts += [f"{split.name} lacks {join_names(lacking)}"] if lacking else []
        yield Finding(
            Severity.ERROR,
            f"{first.name} and {split.name} have different categories: "
            + ("; ".join(parts) or "the same names, but other ids, which set their order"),
            "give both files the same list of categories, also where one has no objects of some",
            len(only) + len(lacking),
        )


def empty_classes(data: Inspection) -> Findings:
    """Classes without an object anywhere."""
    counts = count_by_class(data, TRAIN) + count_by_class(data, TEST)
    names = list(dict.fromkeys(name for split in data.loaded for name in split.classes))
    empty = [name for name in names if not counts[name]]
    if counts and empty:
        yield Finding(
            Severity.WARNING,
            f"{format_count(len(empty), 'class', len(names))} {has_or_have(len(empty))} no object: {join_names(empty)}",
            "remove them from the categories, or annotate some: the model has an output for each",
            len(empty),
        )


def classes_in_one_part(data: Inspection) -> Findings:
    train, test = count_by_class(data, TRAIN), count_by_class(data, TEST)
    if not train.total() or not test.total():
        return
    if unseen := [name for name in test if test[name] and not train[name]]:
        yield Finding(
            Severity.WARNING,
            f"{format_count(len(unseen), 'class')} of the test data {has_or_have(len(unseen))} no object in the "
            f"training data: {join_names(unseen)}",
            "add some to the training data: what is never seen is never found, and counts as an AP of 0",
            len(unseen),
        )
    if unmeasured := [name for name in train if train[name] and not test[name]]:
        yield Finding(
            Severity.NOTE,
            f"{format_count(len(unmeasured), 'class')} of the training data {has_or_have(len(unmeasured))} no object "
            f"in the test data: {join_names(unmeasured)}",
            "add some to the test data, or mind that AP says nothing about them",
            len(unmeasured),
        )


def rare_classes(data: Inspection) -> Findings:
    counts = count_by_class(data, TRAIN)
    rare = sorted((name for name in counts if 0 < counts[name] < FEW), key=lambda name: counts[name])
    if rare:
        yield Finding(
            Severity.WARNING,
            f"{format_count(len(rare), 'class')} {has_or_have(len(rare))} fewer than {FEW} objects in the training "
            "data: " + join_names([f"{name} ({counts[name]})" for name in rare]),
            "annotate more, join classes, or repeat their images by DATALOADER.SAMPLER_TRAIN "
            "RepeatFactorTrainingSampler and DATALOADER.REPEAT_THRESHOLD",
            len(rare),
        )


def names_alike(data: Inspection) -> Findings:
    """Names of classes that differ in case or spaces alone, or by the id that was appended to tell them apart."""
    names = list(dict.fromkeys(name for split in data.loaded for name in split.classes))
    known: dict[str, list[str]] = {}
    for name in names:
        letters = re.sub(r"[\W_]", "", re.sub(r" \(\d+\)$", "", name.casefold()))
        known.setdefault(letters or name, []).append(name)
    alike = [group for group in known.values() if len(group) > 1]
    if alike:
        yield Finding(
            Severity.WARNING,
            f"the names of {format_count(sum(map(len, alike)), 'class')} are nearly the same: "
            + join_names([" and ".join(map(repr, group)) for group in alike]),
            "join those that mean the same",
            len(alike),
        )
