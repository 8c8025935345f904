"""Checks of annotation files: what can't be used of them, and what is missing."""

import numpy as np

from ..findings import Example, Finding, Findings, Severity, format_count, has_or_have, is_or_are
from ..inspection import Inspection
from ..splits import TRAIN, Objects, Split, describe_objects

MANY = 0.5  # a share that is more than usual


def unreadable_data_sets(data: Inspection) -> Findings:
    for split in data.splits:
        if split.problem:
            yield Finding(Severity.ERROR, split.problem.rstrip("."))


def refused_entries(data: Inspection) -> Findings:
    for split in data.loaded:
        if split.refused:
            count = len(split.refused)
            yield Finding(
                Severity.ERROR,
                f"{format_count(count, 'entry')} of {split.source or split.name} can't be used",
                "correct the file, which must be in COCO's format: training doesn't begin before; the other checks "
                "have left them out",
                count,
                split.refused,
            )


def objects_without_masks(data: Inspection) -> Findings:
    """Of test images, they are among the refused entries."""
    for split, objects in data.annotated:
        if not data.cfg.MODEL.MASK_ON:
            continue
        without = np.array([not entry.get("segmentation") for entry in objects.entries]) & ~objects.crowd
        if without.any():
            count, total = int(without.sum()), int((~objects.crowd).sum())
            mild = Severity.NOTE if count == total else Severity.WARNING
            yield Finding(
                Severity.ERROR if data.is_configured else mild,
                f"{format_count(count, 'object', total)} of {split.name} {has_or_have(count)} no mask",
                "train with MODEL.MASK_ON False" if count == total else "add them, or train with MODEL.MASK_ON False",
                count,
                [] if count == total else describe_objects(split, objects, without),
            )
        if data.is_configured and data.cfg.INPUT.MASK_FORMAT == "polygon" and split.role == TRAIN:
            yield from _find_run_lengths(split, objects)


def _find_run_lengths(split: Split, objects: Objects) -> Findings:
    coded = np.array([isinstance(entry.get("segmentation"), dict) for entry in objects.entries]) & ~objects.crowd
    if coded.any():
        yield Finding(
            Severity.ERROR,
            f"{format_count(int(coded.sum()), 'object')} of {split.name} have masks in run lengths, not polygons",
            "set INPUT.MASK_FORMAT bitmask",
            int(coded.sum()),
            describe_objects(split, objects, coded),
        )


def crowd_regions(data: Inspection) -> Findings:
    for split, objects in data.annotated:
        count, total = int(objects.crowd.sum()), len(objects.entries)
        if count:
            share = count / total
            yield Finding(
                Severity.ERROR if count == total else Severity.WARNING if share > MANY else Severity.NOTE,
                f"{format_count(count, 'annotation', total)} of {split.name} {is_or_are(count)} crowds (iscrowd 1), "
                "which are neither learned nor evaluated",
                "if they are objects, as masks of CVAT's brush are, set DATASETS.CROWD_AS_OBJECTS True"
                if share > MANY
                else "",
                count,
            )


def images_without_objects(data: Inspection) -> Findings:
    for split in data.loaded:
        if (objects := split.objects) is None:
            continue
        filled = np.isin(np.arange(len(split.paths)), objects.images[~objects.crowd])
        empty = np.flatnonzero(~filled)
        if split.role == TRAIN and not len(objects.entries):
            yield Finding(Severity.ERROR, f"no image of {split.name} has an object", "annotate some", len(empty))
        elif len(empty):
            learned = split.role != TRAIN or not data.cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
            yield Finding(
                Severity.NOTE,
                f"{format_count(len(empty), 'image', len(split.paths))} of {split.name} {has_or_have(len(empty))} no "
                "object",
                "" if learned else "DATALOADER.FILTER_EMPTY_ANNOTATIONS False trains on them, too, as background",
                len(empty),
                [Example((split.paths[index],)) for index in empty],
            )
