"""Panoptic quality (PQ; Kirillov et al., arXiv 1801.00868) of a panoptic FPN, in percent, beside COCO's metrics.

PQ is the mean intersection over union of the segments that are found (segmentation quality, SQ) times their share in
all that are found or there, by F1 (recognition quality, RQ). A segment is found where one of the same class has an
intersection over union above 0.5 with it; that can be one alone. T and F segments in truth and prediction, K classes:
things first, then stuff.
"""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from tabulate import tabulate

from ..data.detection.segments import read_segments
from ..data.image import DEFAULT, Decoding
from ..files import write_json
from .coco import Evaluator

logger = logging.getLogger(__name__)

RESULTS = "panoptic_results.json"
TASK = "panoptic_seg"  # what the names of metrics begin with
QUALITIES = ("PQ", "SQ", "RQ")
PARTS = {"": "all", "_th": "things", "_st": "stuff"}  # by the ends of the names of metrics, as Detectron2 has them


def find_measures(dataset_name: str) -> dict[str, bool]:
    """Lists the metrics on a registered data set, and whether they have a value whatever is found."""
    metadata = MetadataCatalog.get(dataset_name)
    things, stuff = metadata.thing_classes, metadata.stuff_classes[1:]
    segments = [segment for image in DatasetCatalog.get(dataset_name) for segment in image["segments_info"]]
    there = {(segment["isthing"], segment["category_id"]) for segment in segments if not segment["iscrowd"]}
    parts = {"": bool(there), "_th": any(isthing for isthing, _ in there), "_st": any(not kind for kind, _ in there)}
    means = {f"{quality}{end}": parts[end] for end in PARTS for quality in QUALITIES}
    by_class = {f"PQ-{name}": (True, number) in there for number, name in enumerate(things)}
    return means | by_class | {f"PQ-{name}": (False, number) in there for number, name in enumerate(stuff, start=1)}


class PanopticEvaluator(Evaluator):
    """Collects a panoptic FPN's results on a data set, and computes PQ and COCO's metrics."""

    def __init__(
        self, *args: Any, things: Sequence[str], stuff: Sequence[str], decoding: Decoding = DEFAULT, **options: Any
    ):
        """Takes what to evaluate.

        Args:
            args, options: as for `Evaluator`; RESULTS is written into its folder, too
            things: names of the classes that are counted
            stuff: names of the others
            decoding: of the PNGs
        """
        self.things, self.stuff, self.decoding = list(things), list(stuff), decoding
        super().__init__(*args, **options)

    def reset(self) -> None:
        super().reset()
        self.counts, self.ious = make_counts(len(self.things) + len(self.stuff))

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Takes a model's inputs, with the "pan_seg_file_name" and "segments_info" of a data set, and its outputs.

        Raises:
            InputError: a PNG that can't be read.
        """
        super().process(inputs, outputs)
        for image, output in zip(inputs, outputs, strict=True):
            found, segments = output[TASK]
            truth = read_segments(image["pan_seg_file_name"], self.decoding)
            counts, ious = count_segments(
                (truth, self._number(image["segments_info"])),
                (found.cpu().numpy(), self._number(segments)),
                len(self.things) + len(self.stuff),
            )
            self.counts += counts
            self.ious += ious

    def _number(self, segments: Sequence[Mapping]) -> list[tuple[int, int, bool]]:
        """Lists id, class and whether it is a crowd of each segment; the model numbers stuff from 1 on."""
        return [
            (
                segment["id"],
                segment["category_id"] if segment["isthing"] else len(self.things) + segment["category_id"] - 1,
                bool(segment.get("iscrowd", 0)),
            )
            for segment in segments
        ]

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Writes the results and computes the metrics over all processes.

        Returns:
            {"panoptic_seg": those of :func:`find_measures`, "bbox": …, "segm": …} without those of classes that don't
            occur; empty on all processes but the main one.
        """
        gathered = comm.all_gather((self.counts, self.ious))
        counts, ious = (np.sum([part[i] for part in gathered], axis=0) for i in (0, 1))
        scores = super().evaluate()
        if not comm.is_main_process():
            return {}
        summary = summarize(counts, ious, self.things, self.stuff)
        if self.output_dir:
            write_json(os.path.join(self.output_dir, RESULTS), summary)
        logger.info(f"{self.dataset_name}, panoptic quality:\n{format_qualities(summary)}")
        means = {
            f"{quality}{end}": math.nan if value is None else value
            for end, part in PARTS.items()
            for quality, value in summary[part].items()
        }
        by_class = {f"PQ-{entry['name']}": entry["PQ"] for entry in summary["classes"] if entry["PQ"] is not None}
        return {TASK: means | by_class} | scores


def make_counts(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Makes what :func:`count_segments` returns, of no image."""
    return np.zeros((classes, 3), np.int64), np.zeros(classes)


def count_segments(
    truth: tuple[np.ndarray, Sequence[tuple[int, int, bool]]],
    found: tuple[np.ndarray, Sequence[tuple[int, int, bool]]],
    classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Matches the segments of an image.

    Pixels that are void in the truth don't count: not in unions, and segments found that are void by more than half,
    or part of a crowd of their class, are no mistake. Crowds need not be found.

    Args:
        truth: (H, W) ids, 0 for void; and id, class and whether it is a crowd of each segment
        found: the same of the prediction
        classes: K

    Returns:
        (K, 3) int64 how many are found, found wrongly, and missed; (K,) sums of the intersections over union of those
        found
    """
    counts, ious = make_counts(classes)
    overlaps = _count_overlaps(truth, found)
    (_, true_class, crowd), (_, found_class, _) = (_list_columns(segments) for _, segments in (truth, found))
    void, inner = overlaps[0, 1:], overlaps[1:, 1:]
    areas = overlaps[:, 1:].sum(0)
    unions = overlaps[1:].sum(1)[:, None] + areas - inner - void
    same = true_class[:, None] == found_class
    quality = np.divide(inner, unions, out=np.zeros(inner.shape), where=unions > 0)
    matched = same & ~crowd[:, None] & (quality > 0.5)
    ignored = void + (inner * (same & crowd[:, None])).sum(0) > areas / 2
    wrong = ~matched.any(0) & ~ignored & (areas > 0)
    missed = ~matched.any(1) & ~crowd
    rows, columns = np.nonzero(matched)
    np.add.at(counts[:, 0], true_class[rows], 1)
    np.add.at(counts[:, 1], found_class[wrong], 1)
    np.add.at(counts[:, 2], true_class[missed], 1)
    np.add.at(ious, true_class[rows], quality[rows, columns])
    return counts, ious


def _count_overlaps(*maps: tuple[np.ndarray, Sequence[tuple[int, int, bool]]]) -> np.ndarray:
    """Counts the pixels that segments share: (T + 1, F + 1) int64, row and column 0 for pixels of none."""
    places = []
    for ids, segments in maps:
        listed = np.array([0, *(number for number, _, _ in segments)])
        order = np.argsort(listed)
        places.append(order[np.searchsorted(listed, ids.ravel(), sorter=order)])
    rows, columns = (len(segments) + 1 for _, segments in maps)
    return np.bincount(places[0] * columns + places[1], minlength=rows * columns).reshape(rows, columns)


def _list_columns(segments: Sequence[tuple[int, int, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, classes, crowds = zip(*segments, strict=True) if segments else ((), (), ())
    return np.array(ids, np.int64), np.array(classes, np.int64), np.array(crowds, bool)


def summarize(counts: np.ndarray, ious: np.ndarray, things: Sequence[str], stuff: Sequence[str]) -> dict[str, Any]:
    """Computes the metrics, in percent.

    Args:
        counts, ious: sums of :func:`count_segments` over the images
        things, stuff: names of the classes

    Returns:
        Under "all", "things" and "stuff" the "PQ", "SQ" and "RQ" of the classes that occur in truth or prediction, on
        average; "classes", for each its "name", whether it "isthing", "PQ", "SQ", "RQ" and the numbers "found",
        "wrong" and "missed". None where there is nothing.
    """
    found, wrong, missed = counts.T
    halves = found + (wrong + missed) / 2
    qualities = np.full((3, len(counts)), np.nan)
    occurs = halves > 0
    sq = np.divide(ious, found, out=np.zeros(len(found)), where=found > 0)
    qualities[:, occurs] = 100 * np.stack([ious[occurs] / halves[occurs], sq[occurs], found[occurs] / halves[occurs]])
    names = [*things, *stuff]
    classes = [
        {"name": name, "isthing": number < len(things)}
        | dict(zip(QUALITIES, map(_to_value, qualities[:, number].tolist()), strict=True))
        | dict(zip(("found", "wrong", "missed"), counts[number].tolist(), strict=True))
        for number, name in enumerate(names)
    ]
    groups = {"all": slice(None), "things": slice(len(things)), "stuff": slice(len(things), None)}
    return {part: _average(qualities[:, group]) for part, group in groups.items()} | {"classes": classes}


def _average(qualities: np.ndarray) -> dict[str, float | None]:
    present = qualities[:, ~np.isnan(qualities[0])]
    means = present.mean(1).tolist() if present.size else [None] * 3
    return dict(zip(QUALITIES, means, strict=True))


def _to_value(value: float) -> float | None:
    return None if math.isnan(value) else value


def format_qualities(summary: Mapping[str, Any]) -> str:
    """Formats a table of the classes that occur, those that are found least first, and the means below."""
    present = [entry for entry in summary["classes"] if entry["PQ"] is not None]
    rows = [
        [entry["name"], *(f"{entry[quality]:.1f}" for quality in QUALITIES)]
        + [entry["found"], entry["wrong"], entry["missed"]]
        for entry in sorted(present, key=lambda entry: entry["PQ"])
    ]
    rows += [
        [f"mean of {part}", *(f"{summary[part][quality]:.1f}" for quality in QUALITIES), "", "", ""]
        for part in reversed(PARTS.values())
        if summary[part]["PQ"] is not None
    ]
    headers = ["class", *QUALITIES, "found", "wrong", "missed"]
    return tabulate(rows, headers, "pipe", disable_numparse=True, colalign=("left", *["right"] * 6))
