"""Checks of how large objects and images are for the network."""

import numpy as np

from ....config.architectures import is_detector
from ....config.building import list_sides
from ..findings import Finding, Findings, Severity, format_count
from ..inspection import Inspection
from ..splits import TEST, TRAIN
from ..statistics import compute_input_scales, compute_input_sides, compute_ratios, describe_input

SMALL = 16  # pixels of the network's input: the stride of the encoder's third stage, a token
MANY_SMALL, SOME_SMALL = 0.2, 0.02  # shares of the objects
LONG, MANY_LONG = 5.0, 0.05  # sides of a box, longer to shorter; a share of the objects
LARGER, ENLARGED = 2.0, 2.0  # times


def objects_small_for_input(data: Inspection) -> Findings:
    for split, objects in data.annotated:
        sides = compute_input_sides(data, split, objects)
        share = float((sides < SMALL).mean()) if len(sides) else 0.0
        if share > SOME_SMALL:
            shrunk = float(np.median(compute_input_scales(data.cfg, split.role, data.sizes[split.name])))
            tiles = f"; or cut the images, which are shrunk to {shrunk:.0%}, into tiles" if shrunk < 1 / LARGER else ""
            yield Finding(
                Severity.WARNING if share > MANY_SMALL else Severity.NOTE,
                f"{share:.0%} of the objects of {split.name} are smaller than {SMALL} pixels at the network's input "
                f"({describe_input(data.cfg, split.role)}), less than a token of its third stage",
                f"larger images help: at twice the size {float((2 * sides < SMALL).mean()):.0%} would be{tiles}",
                int((sides < SMALL).sum()),
            )


def objects_sized_otherwise(data: Inspection) -> Findings:
    """Test objects of another size than those that are trained on."""
    medians = {TRAIN: 0.0, TEST: 0.0}
    for role in medians:
        sides = [compute_input_sides(data, split, objects) for split, objects in data.annotated if split.role == role]
        sides = np.concatenate([np.zeros(0), *sides])
        medians[role] = float(np.median(sides)) if len(sides) else 0.0
    low, high = sorted(medians.values())
    if low and high / low > LARGER:
        yield Finding(
            Severity.WARNING,
            f"the median object has {medians[TRAIN]:.0f}² pixels at the network's input in training, but "
            f"{medians[TEST]:.0f}² in testing",
            "see whether both parts come from the same source, and are resized alike: INPUT.LSJ.IMAGE_SIZE in "
            "training, INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST in testing",
        )


def objects_unlike_anchors(data: Inspection) -> Findings:
    for split, objects in data.annotated:
        ratios = compute_ratios(objects)
        long = np.maximum(ratios, 1 / ratios) > LONG
        if split.role == TRAIN and long.any() and long.mean() > MANY_LONG:
            yield Finding(
                Severity.NOTE,
                f"{long.mean():.0%} of the objects of {split.name} are more than {LONG:.0f} times as long as wide",
                "add such shapes to MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
                int(long.sum()),
            )


def small_images(data: Inspection) -> Findings:
    """Images that are enlarged, or too small for a crop."""
    for split in data.loaded:
        sizes = data.sizes[split.name]
        sizes = sizes[sizes.min(axis=1, initial=2**31) > 0]
        if not len(sizes):
            continue
        crop = list_sides(data.cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE)
        few, named = int((sizes < crop).any(axis=1).sum()), "×".join(map(str, dict.fromkeys(crop)))
        if is_detector(data.cfg) and data.is_configured and split.role == TRAIN:
            scale = float(np.median(compute_input_scales(data.cfg, split.role, sizes)))
            if scale > ENLARGED:
                yield Finding(
                    Severity.NOTE,
                    f"the images of {split.name} are enlarged {scale:.1f} times for the network "
                    f"({describe_input(data.cfg, split.role)})",
                    "smaller ones train several times as fast, and may find as much",
                    len(sizes),
                )
        elif not is_detector(data.cfg) and few:
            yield Finding(
                Severity.NOTE,
                f"{format_count(few, 'image', len(sizes))} of {split.name} are smaller than the crop of "
                f"{named} pixels (MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE), and are enlarged",
                count=few,
            )
