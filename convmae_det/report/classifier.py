"""The sections on an evaluation of a classifier: accuracy, classes, confusions, the surest mistakes."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from detectron2.config import CfgNode
from markupsafe import Markup

from ..data.image import Decoding
from ..data.large_image import read_shrunk
from ..errors import InputError
from .classes import build_gallery, build_matrix, find_confusion
from .page import Section, render
from .pictures import Budget, encode_picture
from .tables import Cell, render_table, render_tiles

PICTURE_SIDE = 320  # pixels of the longer side of a mistake


def build_classifier_sections(name: str, summary: Mapping, cfg: CfgNode, budget: Budget) -> Iterator[Section]:
    """Builds the sections on an evaluation.

    Args:
        name: of the data set
        summary: what the evaluation has written
        cfg: of the run, for how images are read
        budget: what pictures may take
    """
    classes = [entry for entry in summary["classes"] if entry["images"]]
    tiles = {"top-1, %": summary["top1"], "top-5, %": summary["top5"] if len(classes) > 5 else None}
    tiles |= {"mean of the classes, %": summary["class_mean"], "images": summary["images"]}
    yield Section(
        f"What is wrong with the classifier on {name}",
        render_tiles(tiles) + render("findings.html", findings=find_faults(summary)),
        "Top-1 is the share of the images whose class has the highest score, top-5 that of those whose class is among "
        "the five highest.",
    )
    yield build_matrix(summary, "images")
    rows = [(entry["name"], entry["images"], entry["accuracy"], _find_rival(summary, entry)) for entry in classes]
    headers = ["class", "images", "accuracy, %", "most often taken for"]
    yield Section("Classes", render_table(headers, rows), "Press a title to sort, for example the accuracy.")
    if summary.get("mistakes"):
        explanation = "Images with the highest scores of a class that is not theirs. Wrong labels are often among them."
        yield build_gallery("The surest mistakes", explanation, _draw_mistakes(summary, cfg), budget, small=True)


def find_faults(summary: Mapping) -> list[str]:
    """Finds what keeps a classifier from being better, in sentences."""
    if (most := find_confusion(summary)) is None:
        return ["It makes no mistake on these images."]
    sentences = [
        f"It confuses {most.one} and {most.other} most: {most.count:,} of its {most.errors:,} mistakes. Check the "
        "labels of both, and add images that show the difference."
    ]
    known = [entry for entry in summary["classes"] if entry["accuracy"] is not None]
    worst = sorted(known, key=lambda entry: entry["accuracy"])[: min(3, len(known) - 1)]
    described = ", ".join(f"{entry['name']} ({entry['accuracy']:.1f} %)" for entry in worst)
    if worst:
        sentences.append(f"The classes that are recognised least often: {described}.")
    if summary["top1"] - summary["class_mean"] > 5:
        sentences.append("Rare classes do worse than frequent ones: add images of them, or train longer.")
    return sentences


def _find_rival(summary: Mapping, entry: Mapping) -> Cell:
    """Finds the class that the images of one are taken for most often."""
    index = next(i for i, other in enumerate(summary["classes"]) if other is entry)
    counts = list(summary["confusion"][index])
    counts[index] = 0
    most = max(range(len(counts)), key=counts.__getitem__)
    if not counts[most]:
        return Cell("")
    return Cell(f"{summary['classes'][most]['name']} ({counts[most]:,})", counts[most])


def _draw_mistakes(summary: Mapping, cfg: CfgNode) -> Iterator[Markup | InputError]:
    names, decoding = [entry["name"] for entry in summary["classes"]], Decoding.from_config(cfg)
    for mistake in summary["mistakes"]:
        path = Path(mistake["file_name"])
        try:
            pixels = read_shrunk(path, cfg.INPUT.FORMAT, decoding, PICTURE_SIDE)
        except InputError as error:
            yield error
            continue
        text = f"taken for {names[mistake['found']]} ({mistake['score']:.0%}), is {names[mistake['label']]}"
        yield render("mistake.html", name=path.name, text=text, picture=encode_picture(pixels, PICTURE_SIDE))
