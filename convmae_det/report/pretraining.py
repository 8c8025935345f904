"""The sections on a pretraining run: reconstructions, and what its features are worth."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from detectron2.config import CfgNode
from markupsafe import Markup
from PIL import Image

from ..evaluation.metrics_file import Curve
from .page import Section, join, render
from .pictures import Budget, encode_picture
from .tables import render_tiles

SHEET_SIDE = 1400  # pixels of the longer side of a sheet of reconstructions
PROBED = re.compile(r"probe/(.+)/(knn_top1|rank)|features/(rank)")
NAMES = {"knn_top1": "k-NN top-1, %", "rank": "rank of features"}


def build_pretraining_sections(
    cfg: CfgNode, folder: Path, curves: Mapping[str, Curve], budget: Budget
) -> Iterator[Section]:
    """Builds the sections on a pretraining run.

    Args:
        cfg: of the run
        folder: its OUTPUT_DIR
        curves: of its metrics.json; empty without one
        budget: what pictures may take
    """
    yield _build_summary(cfg, curves)
    yield _build_reconstructions(folder, budget)


def _build_summary(cfg: CfgNode, curves: Mapping[str, Curve]) -> Section:
    tiles: dict[str, object] = {}
    if losses := curves.get("total_loss"):
        last = [value for _, value in losses[-20:]]
        tiles["loss"] = f"{sum(last) / len(last):.3f}"
    if epochs := curves.get("epoch"):
        tiles["epochs"] = f"{epochs[-1][1]:.4g}"
    tiles["masked"] = f"{cfg.MODEL.MAE.MASK_RATIO:.0%}"
    for name, curve in curves.items():
        if found := PROBED.fullmatch(name):
            data, measure = found[1], found[2] or found[3]
            tiles[f"{NAMES[measure]}, {data or 'training images'}"] = f"{curve[-1][1]:.1f}"
    return Section(
        "What the pretraining has come to",
        render_tiles(tiles),
        "The encoder sees a small part of each image and learns to draw the rest. The loss is the mean squared error "
        "of the hidden patches; how good the features are, a probe or a fine-tuned model says (docs/pretraining.md).",
    )


def _build_reconstructions(folder: Path, budget: Budget) -> Section:
    sheets = sorted((folder / "reconstructions").glob("[0-9]" * 7 + ".png"))
    title = "Reconstructions"
    if not sheets:
        advice = "There are none: VIS_PERIOD was 0. convmae-det reconstruct draws them from the checkpoint."
        return Section(title, render("problems.html", problems=[advice]))
    figures = []
    for path in [sheets[-1], *sheets[:-1][:1]]:
        with Image.open(path) as picture:
            text = f"after {int(path.stem):,} iterations"
            figure = render("sheet.html", text=text, picture=encode_picture(picture, SHEET_SIDE))
        if budget.take(figure):
            figures.append(figure)
    return Section(
        title,
        Markup('<div class="pair">{}</div>').format(join(figures)),
        "Each row is an image: whole, what the encoder saw of it, what it drew of the rest, and the two together. Fine "
        "detail is not to be expected; shapes and colours that continue are.",
    )
