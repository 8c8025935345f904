"""A small segmentation data set of drawn shapes, for the quickstart and as an example of the formats.

    convmae-det shapes [DIR] [--train N] [--val N] [--size PIXELS] [--objects LEAST MOST] [--seed S]

writes ellipses, rectangles, triangles and stars on textured backgrounds in COCO's layout (so does
``python -m convmae_det.data.shapes``):

    DIR/annotations/instances_train.json    DIR/train/000000000001.png ...
    DIR/annotations/instances_val.json      DIR/val/000000000001.png ...

masks that hold the number of a class at each pixel, 0 for the background, as DIR/masks/train/000000000001.png ..., and
COCO's panoptic format, in which the background is stuff: DIR/annotations/panoptic_train.json and, with a colour for
each shape, DIR/panoptic/train/000000000001.png ...

Later shapes cover earlier ones; each annotation describes the pixels that stay visible, and every shape in an image is
annotated. Image i of a split depends on the seed, the split and i alone. The images are PNG, not JPEG: lossless, so the
pixels don't depend on the version of a decoder.

S: side of the square image in pixels.
"""

import colorsys
import functools
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from PIL import Image
from tqdm import tqdm

from ..errors import InputError
from .shape_drawing import CATEGORIES, OBJECTS, Patch, Shape, draw_image

SEMANTIC_CLASSES = ("background", *CATEGORIES)  # of the masks
SPLITS, MASKS, PANOPTIC = ("train", "val"), "masks", "panoptic"  # folders
ID_STEP = 0x9E3779  # odd, so that all numbers give different ids
KINDS = ("instances", "panoptic")  # of annotation files
BACKGROUND = {"id": len(CATEGORIES) + 1, "name": SEMANTIC_CLASSES[0], "supercategory": "background"}

# for images smaller than 64 pixels the largest shape would hardly be larger than the smallest
RANGES = {"train": (1, 10**6), "val": (1, 10**6), "size": (64, 2048), "seed": (0, 2**63)}
ROOM = 256  # pixels of an image for each shape, at least: in less they would be too small to be told apart

VERSION = "1.3"  # increase it with every change of the drawings: data sets on disk are then drawn again
GENERATOR = "convmae_det.data.shapes"


def trace_visible_polygons(coverage: np.ndarray, left: int = 0, top: int = 0) -> list[list[float]]:
    """Traces the outlines of the pixels that a shape covers by more than half.

    COCO rasterises a polygon by the even-odd rule and adds up the polygons of an object, so a hole (a smaller shape on
    top) can't be a polygon of its own: a slit, traced in both directions, connects it with the outline.

    Args:
        coverage: (h, w) float64 in [0, 1]
        left: pixels of the image on the left of it
        top: pixels of the image above it

    Returns:
        One polygon [x0, y0, x1, y1, ...] for each visible part, in COCO's pixels: pixel i spans i to i + 1.
    """
    # COCO rasterises on a grid of 1/5 pixel; outlines away from the pixels' centres give the same pixels again
    clear = np.where(coverage > 0.5, np.maximum(coverage, 0.6), np.minimum(coverage, 0.4))
    # the margin closes outlines at the image's border; it shifts by 1, the centre of a pixel is at + 0.5
    generator = contour_generator(z=np.pad(clear, 1), fill_type=FillType.OuterOffset)
    polygons = []
    for points, offsets in zip(*generator.filled(0.5, np.inf), strict=True):
        rings = [points[start:end] for start, end in itertools.pairwise(offsets)]  # outer, then holes
        slits = [np.concatenate([hole, rings[0][:1]]) for hole in rings[1:]]
        polygons.append((np.concatenate([rings[0], *slits]) - 0.5 + (left, top)).round(2).ravel().tolist())
    return polygons


def build_annotation(shape: Shape, patch: Patch) -> dict:
    """Builds COCO's annotation of the visible part of a shape, without the ids of annotation and image."""
    visible = patch.share > 0.5
    return {
        "category_id": number_category(shape),
        "segmentation": trace_visible_polygons(patch.share, patch.left, patch.top),
        "area": int(visible.sum()),
        "bbox": find_box(visible, patch.left, patch.top),
        "iscrowd": 0,
    }


def number_category(shape: Shape) -> int:
    """Returns the id of a shape's category."""
    return CATEGORIES.index(shape.category) + 1


def find_box(visible: np.ndarray, x0: int = 0, y0: int = 0) -> list[int]:
    """Finds the box around the pixels that are True, some of (h, w) from (x0, y0) on: x, y, width, height."""
    y, x = np.nonzero(visible)
    left, top = int(x.min()), int(y.min())
    return [x0 + left, y0 + top, int(x.max()) + 1 - left, int(y.max()) + 1 - top]


def build_mask(shapes: list[Shape], patches: list[Patch], size: int) -> Image.Image:
    """Builds the mask of an image: the number of its class at each pixel, with colours to look at.

    Args:
        shapes: the shapes of the image
        patches: where each is seen
        size: S
    """
    numbers = np.zeros((size, size), np.uint8)
    for shape, patch in zip(shapes, patches, strict=True):
        numbers[patch.place][patch.share > 0.5] = SEMANTIC_CLASSES.index(shape.category)
    mask = Image.fromarray(numbers)
    mask.putpalette([0, 0, 0, *(value for i in range(len(CATEGORIES)) for value in choose_colour(i, len(CATEGORIES)))])
    return mask


def choose_colour(number: int, count: int) -> tuple[int, ...]:
    """Chooses one of so many colours that are easily told apart, RGB."""
    return tuple(round(255 * value) for value in colorsys.hsv_to_rgb(number / count, 0.8, 0.9))


def build_segments(shapes: list[Shape], patches: list[Patch], size: int) -> tuple[Image.Image, list[dict]]:
    """Builds the segments of an image in COCO's panoptic format: of the background, and of each shape.

    Args:
        shapes: the shapes of the image
        patches: where each is seen
        size: S

    Returns:
        The picture whose colours are their ids, and what is told of each.
    """
    ids = np.full((size, size), choose_segment_id(0))
    for number, patch in enumerate(patches, start=1):
        ids[patch.place][patch.share > 0.5] = choose_segment_id(number)
    background = ids == choose_segment_id(0)
    segments = []
    if background.any():
        area = int(background.sum())
        segments.append({"category_id": BACKGROUND["id"], "area": area, "bbox": find_box(background)})
    for shape, patch in zip(shapes, patches, strict=True):
        described = build_annotation(shape, patch)
        segments.append({key: described[key] for key in ("category_id", "area", "bbox")})
    numbers = range(0 if background.any() else 1, len(shapes) + 1)
    segments = [
        {"id": choose_segment_id(number), **segment, "iscrowd": 0}
        for number, segment in zip(numbers, segments, strict=True)
    ]
    return Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=2).astype(np.uint8)), segments


def choose_segment_id(number: int) -> int:
    """Chooses ids of segments that are easily told apart as colours, red + 256 green + 256² blue; none comes twice."""
    return (1 + number * ID_STEP) % 256**3


def get_annotation_path(root: Path, split: str, kind: str = KINDS[0]) -> Path:
    """Returns the path of a split's annotation file, of one of KINDS."""
    return root / "annotations" / f"{kind}_{split}.json"


def write_split(root: Path, split: str, info: dict) -> None:
    """Draws the images of a split into ``root/split`` and writes its annotation files, which contain ``info``."""
    count, size, seed = (info["parameters"][name] for name in (split, "size", "seed"))
    objects = tuple(info["parameters"].get("objects", OBJECTS))
    images, annotations, panoptic = [], [], []
    for folder in (root / split, root / MASKS / split, root / PANOPTIC / split):
        folder.mkdir(parents=True)
    for image_id in tqdm(range(1, count + 1), desc=f"Drawing {split}", unit="image", disable=None):
        rng = np.random.default_rng((seed, SPLITS.index(split), image_id))
        pixels, shapes, patches = draw_image(rng, size, objects)
        file_name = f"{image_id:012d}.png"
        Image.fromarray(pixels).save(root / split / file_name)
        build_mask(shapes, patches, size).save(root / MASKS / split / file_name)
        colours, segments = build_segments(shapes, patches, size)
        colours.save(root / PANOPTIC / split / file_name)
        panoptic.append({"image_id": image_id, "file_name": file_name, "segments_info": segments})
        images.append({"id": image_id, "file_name": file_name, "width": size, "height": size, "license": 1})
        for shape, patch in zip(shapes, patches, strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **build_annotation(shape, patch)})
    categories = [{"id": i + 1, "name": name, "supercategory": "shape"} for i, name in enumerate(CATEGORIES)]
    content = {
        "info": info,
        "licenses": [{"id": 1, "name": "Apache License 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "images": images,
    }
    objects = content | {"annotations": annotations, "categories": categories}
    things = [category | {"isthing": 1} for category in categories]
    segments = content | {"annotations": panoptic, "categories": [*things, BACKGROUND | {"isthing": 0}]}
    (root / "annotations").mkdir(exist_ok=True)
    for kind, part in zip(KINDS, (objects, segments), strict=True):
        get_annotation_path(root, split, kind).write_text(json.dumps(part, separators=(",", ":")))


def read_annotations(path: Path) -> dict:
    """Reads an annotation file of ours; empty if there is none, or if another program wrote it or it is damaged."""
    try:
        content = json.loads(path.read_text())
        return content if content["info"]["generator"] == GENERATOR else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def is_complete(root: Path, info: dict) -> bool:
    """Whether ``root`` holds the data set that ``info`` describes, with all its images."""
    for split in SPLITS:
        contents = [read_annotations(get_annotation_path(root, split, kind)) for kind in KINDS]
        if any(content.get("info") != info for content in contents):
            return False
        names, folders = [image["file_name"] for image in contents[0]["images"]], (root, root / MASKS, root / PANOPTIC)
        if not all((folder / split / name).is_file() for folder in folders for name in names):
            return False
    return True


def check_replaceable(root: Path) -> None:
    """Checks that ``root`` may be replaced: it is absent, empty, or a data set of ours without other files.

    Raises:
        InputError: it contains something else.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file, but the shapes need a folder; name another one.")
    layout = r"((masks|panoptic)/)?(train|val)/\d{12}\.png|annotations/(instances|panoptic)_(train|val)\.json"
    ours = any(read_annotations(get_annotation_path(root, split)) for split in SPLITS)
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not (ours and re.fullmatch(layout, name)):
            raise InputError(f"{root} holds {name}, which this command didn't write; name another folder.")


def find_default_root() -> Path:
    """Returns ``shapes`` in the folder where Detectron2 looks for data sets."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser() / "shapes"


def write_shapes(
    root: str | Path | None = None,
    *,
    train: int = 600,
    val: int = 100,
    size: int = 128,
    objects: Sequence[int] = OBJECTS,
    seed: int = 0,
) -> bool:
    """Writes the data set, unless the folder already contains the same one. All of it is written, or nothing.

    Args:
        root: the folder; None for :func:`find_default_root`. An older data set of ours there is replaced.
        train: number of training images
        val: number of validation images
        size: side of the square images, in pixels
        objects: least and most shapes in an image; where there are many they are small, and a few find no place
        seed: other seeds give other images

    Returns:
        Whether it was written; False if the folder's data set was kept.

    Raises:
        InputError: a number out of range; a folder that contains other files, or can't be written.
    """
    parameters: dict[str, Any] = {"train": train, "val": val, "size": size, "seed": seed}
    for name, (low, high) in RANGES.items():
        if not low <= parameters[name] <= high:
            raise InputError(f"{name} is {parameters[name]}, but must be from {low} to {high}.")
    most = max(size**2 // ROOM, OBJECTS[1])
    if len(objects) != 2 or not 1 <= objects[0] <= objects[1] <= most:
        raise InputError(
            f"objects is {' '.join(map(str, objects))}, but must be a least and a most, from 1 to {most}, for which an "
            f"image of size {size} has room."
        )
    if tuple(objects) != OBJECTS:
        parameters["objects"] = list(objects)
    info = {
        "description": "Drawn shapes, occluding one another on textured backgrounds",
        "version": VERSION,
        "generator": GENERATOR,
        "parameters": parameters,
    }
    try:
        root = Path(root or find_default_root()).expanduser().resolve()  # a link stays a link
        if is_complete(root, info):
            return False
        check_replaceable(root)
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as scratch:
            for split in SPLITS:
                write_split(Path(scratch, "new"), split, info)
            if root.exists():
                root.rename(Path(scratch, "old"))
            Path(scratch, "new").rename(root)
    except OSError as error:
        raise InputError(f"{root} can't be written ({error.strerror or error}); name another folder.") from error
    return True


def register_shapes(root: str | Path | None = None) -> None:
    """Registers ``shapes_train`` and ``shapes_val``, with masks shapes_semantic_…, and with segments shapes_panoptic_….

    Their files need not exist yet.

    Args:
        root: the data set's folder; None for what :func:`find_default_root` returns now. It replaces an earlier one.
    """
    from detectron2.data import DatasetCatalog, MetadataCatalog  # drawing needs no Detectron2
    from detectron2.data.datasets import load_sem_seg, register_coco_instances

    from .detection.panoptic_format import register_panoptic_files

    root = Path(root or find_default_root()).expanduser()
    for split in SPLITS:
        name, json_file, image_root = f"shapes_{split}", str(get_annotation_path(root, split)), str(root / split)
        if name in DatasetCatalog:
            if MetadataCatalog.get(name).json_file == json_file:
                continue
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        metadata = {
            "thing_classes": list(CATEGORIES),
            "thing_dataset_id_to_contiguous_id": {i + 1: i for i in range(len(CATEGORIES))},
        }
        register_coco_instances(name, metadata, json_file, image_root)
        semantic, masks = f"shapes_semantic_{split}", str(root / MASKS / split)
        DatasetCatalog.pop(semantic, None)
        MetadataCatalog.pop(semantic, None)
        DatasetCatalog.register(semantic, functools.partial(load_sem_seg, masks, image_root, "png", "png"))
        metadata = {"stuff_classes": list(SEMANTIC_CLASSES), "ignore_label": 255, "evaluator_type": "sem_seg"}
        MetadataCatalog.get(semantic).set(image_root=image_root, sem_seg_root=masks, **metadata)
        categories = [{"id": i, "name": name, "isthing": 1} for i, name in enumerate(CATEGORIES, start=1)]
        categories.append(BACKGROUND | {"isthing": 0})
        files = image_root, str(get_annotation_path(root, split, "panoptic")), str(root / PANOPTIC / split)
        register_panoptic_files(f"shapes_panoptic_{split}", *files, categories)


if __name__ == "__main__":  # python -m convmae_det.data.shapes
    from ..cli.main import main

    sys.exit(main(["shapes", *sys.argv[1:]]))
