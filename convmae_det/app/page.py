"""What the pages have in common: a place to drop an image, examples, and errors in a sentence."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from .server import import_gradio

SUFFIXES = [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy"]
SHOWN_FOR = 20  # seconds that a sentence stays unless it is closed
THUMBNAIL = 200  # pixels of the longer side
SILENT = dict(show_progress="hidden", api_visibility="private")  # events that are done at once,
WORKING = dict(concurrency_id="model", api_visibility="private")  # and those that run the network, one after the other


def explain(function: Callable) -> Callable:
    """Makes errors of users a sentence on the page."""

    @functools.wraps(function)
    def explained(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except InputError as error:
            sentence = str(error)
            for path in args:
                if isinstance(path, str):
                    sentence = sentence.replace(path, os.path.basename(path))  # users know the name of their file alone
            raise import_gradio().Error(sentence, duration=SHOWN_FOR, print_exception=False) from error

    return explained


def add_source(examples: Sequence[str], load_visible: Callable[[str], np.ndarray]) -> Any:
    """Adds a place to drop an image, and examples to choose.

    Args:
        examples: paths
        load_visible: loads what is shown of an image, (H, W, 3) uint8 RGB

    Returns:
        The component whose value is the chosen path, or None.
    """
    gradio = import_gradio()
    path = gradio.State(None)
    thumbnails, paths = _draw_thumbnails(examples, load_visible)
    label = "Image: drop one here, or choose below" if thumbnails else "Image: drop one here"
    drop = gradio.File(label=label, file_types=SUFFIXES, height=110, elem_id="drop")
    drop.upload(lambda name: name, drop, path, **SILENT)
    drop.clear(lambda: None, None, path, **SILENT)
    if thumbnails:
        looks = dict(height="auto", object_fit="cover", allow_preview=False, buttons=[], elem_id="examples")
        gallery = gradio.Gallery(thumbnails, show_label=False, **looks)

        def choose(event: Any) -> tuple[str, None]:
            return paths[event.index], None

        choose.__annotations__["event"] = gradio.SelectData  # by which gradio knows what to pass
        gallery.select(choose, None, [path, drop], **SILENT)
    return path


def _draw_thumbnails(
    examples: Sequence[str], load_visible: Callable[[str], np.ndarray]
) -> tuple[list[Image.Image], list[str]]:
    """Draws the images that can be read."""
    thumbnails, paths = [], []
    for path in examples:
        try:
            thumbnail = Image.fromarray(load_visible(path))
        except InputError:
            continue
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
        thumbnails.append(thumbnail)
        paths.append(path)
    return thumbnails, paths


def add_picture(label: str, name: str) -> Any:
    """Adds a picture; `name` is what a browser knows it by."""
    buttons = ["download", "fullscreen"]  # by itself gradio offers to publish it, too
    return import_gradio().Image(label=label, format="png", buttons=buttons, interactive=False, elem_id=name)


def add_features(path: Any, look: Callable[[str | None], np.ndarray | None]) -> None:
    """Adds what draws, when asked, the features of the image at the component `path`."""
    gradio = import_gradio()
    with gradio.Accordion("Features", open=False):
        ask = gradio.Button("Show what the encoder tells apart", elem_id="ask")
        features = add_picture("Features", "features")
    path.change(lambda: None, None, features, **SILENT)
    ask.click(explain(look), path, features, **WORKING)
