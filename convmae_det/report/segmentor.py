"""The sections on an evaluation of a segmentor: classes, confusions, the worst images; and on panoptic quality."""

import base64
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from markupsafe import Markup
from PIL import Image

from ..data.image import Decoding, read_visible
from ..data.segmentation.masks import read_mask
from ..errors import InputError
from ..evaluation.panoptic import QUALITIES
from ..visualization.segmentation import draw_segmentation
from ..visualization.sheet import draw_sheet
from .classes import build_gallery, build_matrix, find_confusion
from .page import Section, render
from .pictures import Budget, encode_picture
from .tables import render_table, render_tiles

PICTURE_SIDE = 900  # pixels of the longer side of truth and prediction beside each other


def build_segmentor_sections(name: str, summary: Mapping, cfg: CfgNode, budget: Budget) -> Iterator[Section]:
    """Builds the sections on an evaluation.

    Args:
        name: of the data set
        summary: what the evaluation has written
        cfg: of the run, for how images are read
        budget: what pictures may take
    """
    tiles = {f"{key}, %": summary[key] for key in ("mIoU", "mACC", "pACC")}
    tiles |= {"boundary mIoU, %": summary["boundary_mIoU"], "images": summary["images"]}
    yield Section(
        f"What is wrong with the segmentor on {name}",
        render_tiles(tiles) + render("findings.html", findings=find_faults(summary)),
        "mIoU is the intersection over union of the pixels, on average of the classes; mACC and pACC are the shares of "
        "the pixels that are found, on average of the classes and of all. Boundary mIoU takes those near outlines.",
    )
    yield build_matrix(summary, "pixels")
    keys = ("IoU", "accuracy", "boundary_IoU", "pixels")
    rows = [(entry["name"], *(entry[key] for key in keys)) for entry in summary["classes"] if entry["IoU"] is not None]
    headers = ["class", "IoU, %", "accuracy, %", "boundary IoU, %", "pixels"]
    yield Section("Classes", render_table(headers, rows), "Press a title to sort, for example the IoU.")
    if summary.get("worst"):
        explanation = "Images with the smallest share of pixels that are right. Wrong labels are often among them."
        yield build_gallery("The worst images", explanation, _draw_worst(summary, cfg), budget)


def find_faults(summary: Mapping) -> list[str]:
    """Finds what keeps a segmentor from being better, in sentences."""
    if (most := find_confusion(summary)) is None:
        return ["It makes no mistake on these images."]
    share = most.count / most.errors
    sentences = [f"It confuses {most.one} and {most.other} most: {share:.0%} of the pixels that are wrong."]
    known = sorted((x for x in summary["classes"] if x["IoU"] is not None), key=lambda entry: entry["IoU"])
    if worst := known[: min(3, len(known) - 1)]:
        described = ", ".join(f"{entry['name']} ({entry['IoU']:.1f} %)" for entry in worst)
        sentences.append(f"The classes with the lowest IoU: {described}.")
    if summary["mIoU"] - summary["boundary_mIoU"] > 15:
        sentences.append("Outlines are worse than areas: larger images, or masks that are drawn closer, help.")
    return sentences


def _draw_worst(summary: Mapping, cfg: CfgNode) -> Iterator[Markup | InputError]:
    names, decoding = [entry["name"] for entry in summary["classes"]], Decoding.from_config(cfg)
    for entry in summary["worst"]:
        try:
            pixels = read_visible(entry["file_name"], cfg.INPUT.FORMAT, decoding)
            truth = read_mask(entry["sem_seg_file_name"], decoding)
        except InputError as error:
            yield error
            continue
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["found"]))))
        if not pixels.shape[:2] == truth.shape == found.shape:
            yield InputError(f"{entry['file_name']} has another size than it was evaluated at.")
            continue
        panels = [draw_segmentation(pixels, labels, names) for labels in (truth, found)]
        picture = encode_picture(draw_sheet([panels], ("labelled", "found")), PICTURE_SIDE)
        text = f"{entry['accuracy']:.1f} % of the pixels are right"
        yield render("mistake.html", name=Path(entry["file_name"]).name, text=text, picture=picture)


def build_panoptic_section(name: str, summary: Mapping) -> Section:
    """Builds the section on panoptic quality, of what the evaluation on a data set has written."""
    tiles = {f"PQ of {part}, %": summary[part]["PQ"] for part in ("all", "things", "stuff")}
    keys = (*QUALITIES, "found", "wrong", "missed")
    rows = [(entry["name"], *(entry[key] for key in keys)) for entry in summary["classes"] if entry["PQ"] is not None]
    return Section(
        f"Panoptic quality on {name}",
        render_tiles(tiles) + render_table(["class", *(f"{key}, %" for key in QUALITIES), *keys[3:]], rows),
        "PQ is SQ, how well segments that are found overlap, times RQ, how many are found.",
    )
