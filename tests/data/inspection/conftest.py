"""Data without a fault, which a test can spoil."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from convmae_det.data.inspection.account import give_account
from convmae_det.data.inspection.inspection import inspect_data
from convmae_det.data.inspection.request import read_request

SIZE = 96, 64  # width, height
PARTS = {"train": 10, "test": 3}  # images
CLASSES = {7: "ant", 90: "bee"}


def draw(seed: int) -> Image.Image:
    """Draws an image that looks like no other: coarse noise, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)


def describe(part: str) -> dict:
    """The content of an annotation file: in each image an object of each class."""
    count = PARTS[part]
    width, height = SIZE
    images = [{"id": n + 1, "file_name": f"{part}{n}.png", "width": width, "height": height} for n in range(count)]
    annotations = []
    for image in images:
        for category, (x, y, w, h) in zip(CLASSES, [(5, 6, 30, 20), (50, 30, 24, 30)], strict=True):
            number = len(annotations) + 1
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotation = {"id": number, "image_id": image["id"], "category_id": category, "iscrowd": 0, "area": w * h}
            annotations.append(annotation | {"bbox": [x, y, w, h], "segmentation": [outline]})
    categories = [{"id": number, "name": name} for number, name in CLASSES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A folder with the images of both parts."""
    folder = tmp_path_factory.mktemp("drawn")
    names = [f"{part}{number}.png" for part, count in PARTS.items() for number in range(count)]
    for seed, name in enumerate(names):
        draw(seed).save(folder / name)
    return folder


@pytest.fixture
def data(drawn, tmp_path, catalog):
    """What a test changes: `train` and `test`, contents of annotation files, and the files in the folder `photos`.

    `draw(seed)` draws an image, of which that of train3.png has the seed 3; `replace(name, image)` puts it in place of
    another. `check(KEY, VALUE, …)` looks for faults, and gives an account.
    """
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in drawn.iterdir():
        (photos / path.name).hardlink_to(path)
    data = SimpleNamespace(photos=photos, **{part: describe(part) for part in PARTS})

    def replace(name: str, image: Image.Image | bytes, **options: object) -> None:
        """Writes another image in place of one."""
        path = photos / name
        path.unlink(missing_ok=True)  # else that of all tests would change
        path.write_bytes(image) if isinstance(image, bytes) else image.save(path, **options)

    def check(*pairs: str, configured: bool = False, test: bool = True):
        words = {part: [write(tmp_path / f"{part}.json", getattr(data, part)), str(photos)] for part in PARTS}
        cfg = read_request("", words["train"], words["test"] if test else [], pairs)
        return give_account(inspect_data(cfg, configured, threads=1))

    data.draw, data.replace, data.check = draw, replace, check
    return data


def write(path: Path, content: object) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)
