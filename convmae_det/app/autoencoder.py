"""A page to try a pretrained model on: what it makes of hidden patches, and what its encoder tells apart."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..inference.reconstruction import Reconstructor
from ..visualization.reconstructions import TITLES, convert_to_rgb
from ..visualization.sheet import draw_sheet
from .features import FeatureDrawer
from .page import SILENT, WORKING, add_features, add_picture, add_source, explain
from .server import import_gradio

RATIOS = (0.1, 0.95)


class AutoencoderView:
    """Reconstructs images, with any share of them hidden."""

    def __init__(self, reconstructor: Reconstructor, draw_features: FeatureDrawer):
        self.reconstructor, self.draw_features = reconstructor, draw_features

    def load_visible(self, path: str) -> np.ndarray:
        """Loads the part that the model takes of an image, (H, W, 3) uint8 RGB.

        Raises:
            InputError: it can't be read.
        """
        square = self.reconstructor.prepare(path)[None].float()
        node = self.reconstructor.cfg.INPUT
        return convert_to_rgb(square, node.FORMAT, node.SHOWN_BANDS)[0]

    def reconstruct(self, path: str | None, ratio: float, seed: int) -> tuple[np.ndarray | None, str]:
        """Reconstructs an image.

        Args:
            path: None: no image
            ratio: share of the patches that is hidden
            seed: of the mask

        Returns:
            The sheet of four panels, (h, w, 3) uint8 RGB, and a line in HTML.

        Raises:
            InputError: the image can't be read, or the ratio hides too much.
        """
        if path is None:
            return None, ""
        image = self.reconstructor.prepare(path)
        self.reconstructor.model.mask_ratio = ratio
        panels, loss = self.reconstructor(image, self.reconstructor.make_noise(image, seed))
        rows, titles = [list(panels[:2]), list(panels[2:])], TITLES[:2]
        sheet = draw_sheet(rows, titles, ["", f"{TITLES[2]}; {TITLES[3]}"])
        return np.asarray(sheet), f'<div class="said">loss <b>{loss:.4f}</b> with {ratio:.0%} hidden</div>'

    def look(self, path: str | None) -> np.ndarray | None:
        """Draws the features of the whole image; errors are those of :meth:`reconstruct`."""
        if path is None:
            return None
        image = self.reconstructor.prepare(path)
        return self.draw_features(image, (image.shape[1], image.shape[2]))


def build_autoencoder_page(view: AutoencoderView, examples: Sequence[str]) -> Any:
    """Builds the page, gradio's Blocks; `examples` are paths of images."""
    gradio = import_gradio()
    cfg = view.reconstructor.cfg
    with gradio.Blocks(title="Reconstructions of ConvMAE", analytics_enabled=False) as blocks:
        path, seed = add_source(examples, view.load_visible), gradio.State(0)
        with gradio.Row():
            with gradio.Column(scale=3, min_width=340):
                picture = add_picture("Reconstruction", "picture")
                said = gradio.HTML(elem_id="said")
            with gradio.Column(scale=1, min_width=260):
                hidden = cfg.MODEL.MAE.MASK_RATIO
                ratio = gradio.Slider(*RATIOS, hidden, step=0.01, label="Hidden share", elem_id="ratio")
                other = gradio.Button("Another mask", elem_id="mask")
                add_features(path, view.look)
        inputs, results = [path, ratio, seed], [picture, said]
        path.change(explain(view.reconstruct), inputs, results, **WORKING)
        ratio.change(explain(view.reconstruct), inputs, results, trigger_mode="always_last", **WORKING)
        drawn = other.click(lambda: random.randrange(2**31), None, seed, **SILENT)
        drawn.success(explain(view.reconstruct), inputs, results, **WORKING)
    return blocks
