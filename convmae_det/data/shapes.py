"""A small segmentation data set of drawn shapes, for the quickstart and as an example of the formats.

    convmae-det shapes [DIR] [--train N] [--val N] [--size PIXELS] [--seed S]

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

S: side of the square image in pixels; F: `OVERSAMPLING`; P: points of an outline.
"""

import colorsys
import functools
import itertools
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from contourpy import FillType, contour_generator
from PIL import Image, ImageDraw
from tqdm import tqdm

from ..errors import InputError

# Corners of each category's outline, and the radius of every second corner where the others have radius 1.
OUTLINES = {"ellipse": (48, 1.0), "rectangle": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.5)}
CATEGORIES = tuple(OUTLINES)
SEMANTIC_CLASSES = ("background", *CATEGORIES)  # of the masks
SPLITS, MASKS, PANOPTIC = ("train", "val"), "masks", "panoptic"  # folders
KINDS = ("instances", "panoptic")  # of annotation files
BACKGROUND = {"id": len(CATEGORIES) + 1, "name": SEMANTIC_CLASSES[0], "supercategory": "background"}

OVERSAMPLING = 4  # shapes are drawn at 4 times the resolution and averaged
MAX_SHAPES = 5
MIN_DIAMETER = 24  # pixels
MAX_DIAMETER = 0.7  # of the image's side
MIN_VISIBLE_AREA = 30  # pixels; a shape with less visible area is not drawn,
MIN_VISIBLE_FRACTION = 0.75  # nor is one of which less is seen: its class should be told at a glance
PLACEMENT_TRIES = 20
# for images smaller than 64 pixels the largest shape would hardly be larger than the smallest
RANGES = {"train": (1, 10**6), "val": (1, 10**6), "size": (64, 1024), "seed": (0, 2**63)}

MUTED, VIVID = ((0.05, 0.45), (0.25, 0.95)), ((0.5, 1.0), (0.5, 1.0))  # saturation and value of colours

FINE, WIDE = (8, 24), (24, 64)  # pixels; periods of the patterns of shapes and backgrounds

VERSION = "1.3"  # increase it with every change of the drawings: data sets on disk are then drawn again
GENERATOR = "convmae_det.data.shapes"


class Shape(NamedTuple):
    """A shape in an image, by its whole outline."""

    category: str
    outline: np.ndarray  # (P, 2) float64, x and y in pixels

    @property
    def area(self) -> float:
        """Area of the whole shape in pixels, visible or not (shoelace formula)."""
        x, y = self.outline.T
        return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def sample_shape(rng: np.random.Generator, size: int, category: str) -> Shape:
    """Samples a shape of random size, proportions, angle and position; its centre lies in the image."""
    corners, second_radius = OUTLINES[category]
    angles = np.pi / corners * (1 + 2 * np.arange(corners))
    radii = np.where(np.arange(corners) % 2, second_radius, 1.0)
    squashed = np.stack([np.cos(angles), rng.uniform(0.6, 1) * np.sin(angles)], axis=1) * radii[:, None]
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    # uniform in the logarithm, so that all levels of a feature pyramid are used
    diameter = np.exp(rng.uniform(np.log(MIN_DIAMETER), np.log(MAX_DIAMETER * size)))
    return Shape(category, rng.uniform(0, size, 2) + diameter / 2 * squashed @ rotation)


def place_shapes(rng: np.random.Generator, size: int) -> tuple[list[Shape], np.ndarray]:
    """Places shapes on top of each other so that every shape stays recognisable.

    Returns:
        The shapes, bottom first, and the owners (S·F, S·F) uint8: 0 for background, i + 1 where shape i is on top.
    """
    shapes, owners = [], Image.new("L", (size * OVERSAMPLING, size * OVERSAMPLING))
    for _ in range(rng.integers(1, MAX_SHAPES + 1)):
        category = CATEGORIES[rng.integers(len(CATEGORIES))]  # before the tries, or bulky ones would be rarer
        for _ in range(PLACEMENT_TRIES):
            pile, covered = [*shapes, sample_shape(rng, size, category)], owners.copy()
            ImageDraw.Draw(covered).polygon((pile[-1].outline * OVERSAMPLING).ravel().tolist(), fill=len(pile))
            visible = np.array(covered.histogram()[1 : len(pile) + 1]) / OVERSAMPLING**2
            needed = [max(MIN_VISIBLE_AREA, MIN_VISIBLE_FRACTION * shape.area) for shape in pile]
            if np.all(visible >= needed):
                shapes, owners = pile, covered
                break
    return shapes, np.asarray(owners)


def compute_visible_coverage(owners: np.ndarray, count: int) -> np.ndarray:
    """Computes the share of each pixel in which shape i is on top, (count, S, S) float64."""
    size = len(owners) // OVERSAMPLING
    cells = owners.reshape(size, OVERSAMPLING, size, OVERSAMPLING).transpose(1, 3, 0, 2).reshape(-1, size, size)
    return np.stack([(cells == label).mean(axis=0) for label in range(1, count + 1)])


def trace_visible_polygons(coverage: np.ndarray) -> list[list[float]]:
    """Traces the outlines of the pixels that a shape covers by more than half.

    COCO rasterises a polygon by the even-odd rule and adds up the polygons of an object, so a hole (a smaller shape on
    top) can't be a polygon of its own: a slit, traced in both directions, connects it with the outline.

    Args:
        coverage: (S, S) float64 in [0, 1]

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
        polygons.append((np.concatenate([rings[0], *slits]) - 0.5).round(2).ravel().tolist())
    return polygons


def generate_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Generates smooth noise of several octaves, weaker the finer they are: (S, S) float64 in [0, 1]."""
    field = np.zeros((size, size))
    for octave in range(2, 7):
        cells = Image.fromarray(rng.random((2**octave, 2**octave), dtype=np.float32))
        field += np.asarray(cells.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64) / 2**octave
    return (field - field.min()) / np.ptp(field)


def generate_texture(rng: np.random.Generator, size: int, periods: tuple[float, float]) -> np.ndarray:
    """Generates stripes, a checkerboard, a gradient or nothing, with noise added: (S, S) float64 in [0, 1].

    A stripe and the gap beside it take a number of pixels between the two `periods`.
    """
    turn, period = rng.uniform(0, np.pi), rng.uniform(*periods)
    y, x = np.mgrid[:size, :size] + rng.uniform(0, period, (2, 1, 1))
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    waves = np.sin(2 * np.pi / period * along), np.sin(2 * np.pi / period * across)
    pattern = [
        0.5 + 1.5 * waves[0],
        0.5 + 3.0 * waves[0] * waves[1],
        (along - along.min()) / np.ptp(along),
        np.full_like(along, 0.5),
    ][rng.integers(4)]
    return 0.6 * np.clip(pattern, 0, 1) + 0.4 * generate_noise(rng, size)


def choose_contrasting_colour(rng: np.random.Generator, others: list, saturation: tuple, value: tuple) -> np.ndarray:
    """Chooses, from six random colours, the one that differs most from `others`: (3,) float64 RGB in [0, 1]."""
    colours = [
        np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))) for _ in range(6)
    ]
    return max(colours, key=lambda colour: min((np.abs(colour - other).sum() for other in others), default=0))


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws a texture between two muted colours: (S, S, 3) float64 in [0, 1]."""
    ground = choose_contrasting_colour(rng, [], *MUTED)
    figure = choose_contrasting_colour(rng, [ground], *MUTED)
    return ground + 0.6 * generate_texture(rng, size, WIDE)[..., None] * (figure - ground)


def draw_image(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[Shape], np.ndarray]:
    """Draws one image.

    Returns:
        The image (S, S, 3) uint8 RGB, its shapes, bottom first, and their visible coverage (len(shapes), S, S) float64.
    """
    shapes, owners = place_shapes(rng, size)
    coverage = compute_visible_coverage(owners, len(shapes))
    background = draw_background(rng, size)
    image, palette = background * (1 - coverage.sum(axis=0))[..., None], [background.mean(axis=(0, 1))]
    for share in coverage:
        palette.append(choose_contrasting_colour(rng, palette, *VIVID))
        shade = 0.75 + 0.25 * generate_texture(rng, size, FINE)
        image += (share * shade)[..., None] * palette[-1]
    return (image * 255).round().astype(np.uint8), shapes, coverage


def build_annotation(shape: Shape, coverage: np.ndarray) -> dict:
    """Builds COCO's annotation of the visible part of a shape, without the ids of annotation and image."""
    visible = coverage > 0.5
    return {
        "category_id": number_category(shape),
        "segmentation": trace_visible_polygons(coverage),
        "area": int(visible.sum()),
        "bbox": find_box(visible),
        "iscrowd": 0,
    }


def number_category(shape: Shape) -> int:
    """Returns the id of a shape's category."""
    return CATEGORIES.index(shape.category) + 1


def find_box(visible: np.ndarray) -> list[int]:
    """Finds the box around the pixels that are True, some of (H, W): x, y, width, height."""
    y, x = np.nonzero(visible)
    left, top = int(x.min()), int(y.min())
    return [left, top, int(x.max()) + 1 - left, int(y.max()) + 1 - top]


def build_mask(shapes: list[Shape], coverage: np.ndarray) -> Image.Image:
    """Builds the mask of an image: the number of its class at each pixel, with colours to look at.

    Args:
        shapes: the shapes of the image
        coverage: (len(shapes), S, S)
    """
    numbers = np.zeros(coverage.shape[1:], np.uint8)
    for shape, share in zip(shapes, coverage, strict=True):
        numbers[share > 0.5] = SEMANTIC_CLASSES.index(shape.category)
    mask = Image.fromarray(numbers)
    mask.putpalette([0, 0, 0, *(value for i in range(len(CATEGORIES)) for value in choose_colour(i, len(CATEGORIES)))])
    return mask


def choose_colour(number: int, count: int) -> tuple[int, ...]:
    """Chooses one of so many colours that are easily told apart, RGB."""
    return tuple(round(255 * value) for value in colorsys.hsv_to_rgb(number / count, 0.8, 0.9))


def build_segments(shapes: list[Shape], coverage: np.ndarray) -> tuple[Image.Image, list[dict]]:
    """Builds the segments of an image in COCO's panoptic format: of each shape, and of the background.

    Args:
        shapes: the shapes of the image
        coverage: (len(shapes), S, S)

    Returns:
        The picture whose colours are their ids, and what is told of each.
    """
    colours = np.zeros((*coverage.shape[1:], 3), np.uint8)
    visible = [share > 0.5 for share in coverage]
    regions = [(~np.any(visible, axis=0), BACKGROUND["id"])]
    regions += [(mask, number_category(shape)) for mask, shape in zip(visible, shapes, strict=True)]
    segments = []
    for number, (mask, category) in enumerate(regions):
        if mask.any():
            colour = choose_colour(number, MAX_SHAPES + 1)
            colours[mask] = colour
            segment = {"id": sum(value * 256**i for i, value in enumerate(colour)), "category_id": category}
            segments.append(segment | {"area": int(mask.sum()), "bbox": find_box(mask), "iscrowd": 0})
    return Image.fromarray(colours), segments


def get_annotation_path(root: Path, split: str, kind: str = KINDS[0]) -> Path:
    """Returns the path of a split's annotation file, of one of KINDS."""
    return root / "annotations" / f"{kind}_{split}.json"


def write_split(root: Path, split: str, info: dict) -> None:
    """Draws the images of a split into ``root/split`` and writes its annotation files, which contain ``info``."""
    count, size, seed = (info["parameters"][name] for name in (split, "size", "seed"))
    images, annotations, panoptic = [], [], []
    for folder in (root / split, root / MASKS / split, root / PANOPTIC / split):
        folder.mkdir(parents=True)
    for image_id in tqdm(range(1, count + 1), desc=f"Drawing {split}", unit="image", disable=None):
        pixels, shapes, coverage = draw_image(np.random.default_rng((seed, SPLITS.index(split), image_id)), size)
        file_name = f"{image_id:012d}.png"
        Image.fromarray(pixels).save(root / split / file_name)
        build_mask(shapes, coverage).save(root / MASKS / split / file_name)
        colours, segments = build_segments(shapes, coverage)
        colours.save(root / PANOPTIC / split / file_name)
        panoptic.append({"image_id": image_id, "file_name": file_name, "segments_info": segments})
        images.append({"id": image_id, "file_name": file_name, "width": size, "height": size, "license": 1})
        for shape, share in zip(shapes, coverage, strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **build_annotation(shape, share)})
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
    root: str | Path | None = None, *, train: int = 600, val: int = 100, size: int = 128, seed: int = 0
) -> bool:
    """Writes the data set, unless the folder already contains the same one. All of it is written, or nothing.

    Args:
        root: the folder; None for :func:`find_default_root`. An older data set of ours there is replaced.
        train: number of training images
        val: number of validation images
        size: side of the square images, in pixels
        seed: other seeds give other images

    Returns:
        Whether it was written; False if the folder's data set was kept.

    Raises:
        InputError: a number out of range; a folder that contains other files, or can't be written.
    """
    parameters = {"train": train, "val": val, "size": size, "seed": seed}
    for name, (low, high) in RANGES.items():
        if not low <= parameters[name] <= high:
            raise InputError(f"{name} is {parameters[name]}, but must be from {low} to {high}.")
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
