"""A page to try a detector on: what it finds in an image, by threshold and class, and what its encoder sees."""

import hashlib
import html
import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.structures import Instances

from ..inference.predictor import Predictor
from ..visualization.colours import class_colour, text_colour
from .features import FeatureDrawer
from .page import SILENT, WORKING, add_picture, add_source, explain
from .server import import_gradio

OBJECTS, FEATURES = "objects", "features"


class Found(NamedTuple):
    """What there is of an image.

    Attributes:
        name: of the file
        pixels: (H, W, 3) uint8 RGB
        image: the network's input
        instances: all that the detector has found
        entries: the same in COCO's results format
    """

    name: str
    pixels: np.ndarray
    image: torch.Tensor
    instances: Instances
    entries: list[dict]


class DetectorView:
    """Finds objects once, and shows them as often as the page changes."""

    def __init__(self, predictor: Predictor, draw_features: FeatureDrawer):
        self.predictor, self.draw_features = predictor, draw_features

    def find(self, path: str | None) -> Found | None:
        """Runs the detector on an image; None without one.

        Raises:
            InputError: it can't be read.
        """
        if path is None:
            return None
        image = self.predictor.prepare(path)
        ((_, instances),) = self.predictor.stream([image])
        name = os.path.basename(path)
        entries = [entry | {"file_name": name} for entry in self.predictor.to_coco(instances, 1)]
        return Found(name, self.predictor.load_visible(path), image["image"], instances, entries)

    def choose(self, found: Found, threshold: float, classes: Sequence[str]) -> torch.Tensor:
        """Chooses objects by score and, unless `classes` is empty, by names: (n) bool."""
        chosen = found.instances.scores >= threshold
        if classes:
            indices = torch.tensor([self.predictor.class_names.index(name) for name in classes])
            chosen &= torch.isin(found.instances.pred_classes, indices)
        return chosen

    def draw(self, found: Found, chosen: torch.Tensor, masks: bool, view: str) -> np.ndarray:
        """Draws the chosen objects, or the features of the image: (h, w, 3) uint8 RGB."""
        if view == FEATURES:
            return self.draw_features(found.image, found.pixels.shape[:2])
        shown = found.instances[chosen]
        if not masks and shown.has("pred_masks"):
            shown.remove("pred_masks")
        return np.asarray(self.predictor.draw(found.pixels, shown, 0.0))

    def count(self, found: Found, chosen: torch.Tensor) -> str:
        """Says in HTML how many objects of each class are chosen, in its colour."""
        counts = Counter(found.instances.pred_classes[chosen].tolist())
        total = counts.total()
        chips = [_draw_chip(k, f"{self.predictor.class_names[k]} {n}") for k, n in counts.most_common()]
        what = f"{total} object{'' if total == 1 else 's'}"
        return f'<div class="said"><b>{what}</b> of {len(chosen)} found &nbsp; {"".join(chips)}</div>'

    def write(self, found: Found, chosen: torch.Tensor) -> str:
        """Writes the chosen objects in COCO's results format. Returns the path, which is that of the same before."""
        content = json.dumps([found.entries[index] for index in chosen.nonzero()[:, 0].tolist()]).encode()
        folder = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.mkdtemp(), hashlib.sha256(content).hexdigest())
        path = folder / f"{Path(found.name).stem}.json"
        if not path.exists():
            folder.mkdir(exist_ok=True)
            path.write_bytes(content)
        return str(path)


def _draw_chip(index: int, text: str) -> str:
    colour = class_colour(index)
    style = f"background: rgb{colour}; color: {text_colour(colour)}"
    return f'<span class="chip" style="{style}">{html.escape(text)}</span>'


def build_detector_page(view: DetectorView, examples: Sequence[str]) -> Any:
    """Builds the page, gradio's Blocks; `examples` are paths of images."""
    gradio = import_gradio()
    predictor = view.predictor

    def show(found: Found | None, threshold: float, classes: list[str], masks: bool, kind: str) -> tuple:
        if found is None:
            return None, "", gradio.DownloadButton(value=None, interactive=False)
        chosen = view.choose(found, threshold, classes)
        button = gradio.DownloadButton(value=view.write(found, chosen), interactive=True)
        return view.draw(found, chosen, masks, kind), view.count(found, chosen), button

    with gradio.Blocks(title="Objects found by ConvMAE", analytics_enabled=False) as blocks:
        path, found = add_source(examples, predictor.load_visible), gradio.State(None)
        with gradio.Row():
            with gradio.Column(scale=3, min_width=340):
                picture = add_picture("Objects", "picture")
                counts = gradio.HTML(elem_id="counts")
            with gradio.Column(scale=1, min_width=260):
                least = predictor.drawn_from
                threshold = gradio.Slider(0, 1, least, step=0.01, label="Least score", elem_id="threshold")
                classes = gradio.Dropdown(
                    predictor.class_names, multiselect=True, label="Classes", info="none: all", elem_id="classes"
                )
                masks = gradio.Checkbox(True, label="masks", visible=bool(predictor.cfg.MODEL.MASK_ON), elem_id="masks")
                kind = gradio.Radio([OBJECTS, FEATURES], value=OBJECTS, label="Show", elem_id="show")
                download = gradio.DownloadButton("Objects as JSON", interactive=False, elem_id="download")
        controls = [threshold, classes, masks, kind]
        results = [picture, counts, download]
        path.change(explain(view.find), path, found, **WORKING).success(
            explain(show), [found, *controls], results, **SILENT
        )
        for control in controls:
            control.change(explain(show), [found, *controls], results, trigger_mode="always_last", **SILENT)
    return blocks
