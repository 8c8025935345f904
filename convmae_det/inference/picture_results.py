"""Pictures of what was found in files, in a folder, with an overview; and what couldn't be read."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_write
from ..visualization.predictions import draw_overview
from ..visualization.sheet import save_png
from .inputs import Input
from .results import OVERVIEW, make_folder


class PictureResults:
    """The folder that results are written to.

    Attributes:
        title: of the panels on the overview
        failures: number of inputs that could not be read
    """

    title = ""

    def __init__(self, folder: str | Path, pictures: bool = True):
        """Makes the folder.

        Raises:
            InputError: it can't be made.
        """
        self.folder, self.pictures, self.failures = Path(folder), pictures, 0
        self._panels: list[list[np.ndarray]] = []
        self._names: list[str] = []
        make_folder(self.folder)

    def save_picture(self, entry: Input, drawn: np.ndarray) -> None:
        """Writes the picture of an input, (h, w, 3) uint8 RGB; the first few come on the overview, too."""
        path = self.folder / f"{entry.output_name}.jpg"
        make_folder(path.parent)
        with atomic_write(path) as file:
            Image.fromarray(drawn).save(file, format="JPEG", quality=92, subsampling=0)
        if len(self._panels) < OVERVIEW:
            self._panels.append([drawn])
            self._names.append(entry.file_name)

    def skip(self, error: InputError) -> None:
        """Counts an input that is left out, and prints why."""
        tqdm.write(f"skipped: {error}", file=sys.stderr)
        self.failures += 1

    def write(self) -> str:
        """Writes what was found. Returns what to print for the user."""
        raise NotImplementedError

    def write_overview(self) -> str:
        """Writes overview.png, if pictures were drawn. Returns what to print for the user, after other lines."""
        if not self._panels:
            return ""
        overview = self.folder / "overview.png"
        save_png(draw_overview(self._panels, self._names, (self.title,)), overview)
        return f"\nDrawn in {self.folder}, the first {len(self._panels)} on {overview}"
