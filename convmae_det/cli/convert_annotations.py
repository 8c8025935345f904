#!/usr/bin/env python3
"""Writes annotations in YOLO's or Pascal VOC's format as an annotation file in COCO's.

    convert_annotations.py yolo IMAGES LABELS DATA.yaml --output train.json
    convert_annotations.py voc IMAGES ANNOTATIONS --output train.json [--list ImageSets/Main/train.txt]

The images stay where they are: DATASETS.COCO_FORMAT names the new file and the folder IMAGES. Lines of a YOLO label
file may be boxes or polygons. A VOC object becomes its box and, where there are any, its polygons. Reading is done by
the library supervision, but outlines are taken as they stand in the files, not by way of masks of pixels.
"""

import argparse
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml

from ..data.image import read_size
from ..errors import InputError
from ..files import atomic_write

TOLERANCE = 0.02  # of the image's sides: a box that goes further beyond them is for another image, or not relative


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    for path in (args.images, args.labels):
        if not path.is_dir():
            raise InputError(f"{path} is not a folder: name the folder in which the files themselves lie")
    dataset, outlines = (read_yolo if args.format == "yolo" else read_voc)(args)
    paths = select(dataset.image_paths, args)
    names = args.categories or dataset.classes
    content = to_coco(dataset, paths, names, outlines, args)
    with atomic_write(args.output) as file:
        file.write(json.dumps(content).encode())
    report(content, args)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    formats = parser.add_subparsers(dest="format", required=True)
    yolo, voc = (formats.add_parser(name) for name in ("yolo", "voc"))
    for command, labels, ending in [(yolo, "LABELS", ".txt"), (voc, "ANNOTATIONS", ".xml")]:
        command.add_argument("images", metavar="IMAGES", type=Path, help="the folder of the images")
        command.add_argument("labels", metavar=labels, type=Path, help=f"the folder of the {ending} files")
        command.add_argument("--output", metavar="FILE.json", type=Path, required=True, help="the file to write")
        command.add_argument(
            "--list", metavar="FILE", type=Path, help="convert only the images named there, one a line"
        )
        command.set_defaults(ending=ending)
    yolo.add_argument("names", metavar="DATA.yaml", type=Path, help="holds the names of the classes")
    yolo.set_defaults(categories=None)
    voc.add_argument("--categories", metavar="NAME", nargs="+", help="in the order of their ids; default: by alphabet")
    return parser.parse_args(arguments)


def read_yolo(args: argparse.Namespace):
    """The data set as supervision reads it, and a function from a label file and the image's size to outlines."""
    dataset = read("from_yolo", args.names, args, data_yaml_path=str(args.names))
    with open(args.names, encoding="utf-8") as file:
        keypoints = "kpt_shape" in yaml.safe_load(file)
    return dataset, lambda path, size: yolo_outlines(path, size, keypoints)


def read_voc(args: argparse.Namespace):
    for path in sorted(args.labels.glob("*.xml")):  # supervision wouldn't say which file it can't read
        check_voc(path)
    return read("from_pascal_voc", args.labels, args), lambda path, size: voc_outlines(path)


def read(method: str, named: Path, args: argparse.Namespace, **options: str):
    """A DetectionDataset of supervision. `named`: what an error is about, unless it says so itself."""
    try:
        from supervision import DetectionDataset
    except ImportError as error:
        raise InputError("the library supervision is not installed: pip install supervision") from error
    options |= {"images_directory_path": str(args.images), "annotations_directory_path": str(args.labels)}
    try:
        return getattr(DetectionDataset, method)(**options)
    except (ValueError, LookupError, OSError, yaml.YAMLError, ElementTree.ParseError) as error:
        raise InputError(f"{named} can't be converted: {' '.join(str(error).split())}") from error


def check_voc(path: Path) -> None:
    try:
        for element in ElementTree.parse(path).iterfind("object"):
            if not element.findtext("name"):
                raise ValueError("an object has no name")
            for side in ("xmin", "ymin", "xmax", "ymax"):
                float(element.findtext(f"bndbox/{side}", f"an object has no {side}"))
    except (ValueError, OSError, ElementTree.ParseError) as error:
        raise InputError(f"{path} is not an annotation file of Pascal VOC ({error}): correct it") from error


def yolo_outlines(path: Path, size: tuple[int, int], keypoints: bool) -> list[list[np.ndarray]]:
    """For each object the polygons, (corners, 2) float64 pixels, around it; none if it is given by a box."""
    rows = [line.split()[1:] for line in path.read_text().splitlines() if line.strip()]
    for row in rows:
        if len(row) > 5 and len(row) % 2 and not keypoints:
            raise InputError(f"{path} has a polygon of {len(row)} numbers, but x and y come in pairs: correct it")
    with_outline = [len(row) > 5 and not keypoints for row in rows]  # a fifth number is a score or the like
    return [
        [np.array(row, dtype=float).reshape(-1, 2) * size] if outlined else []
        for row, outlined in zip(rows, with_outline, strict=True)
    ]


def voc_outlines(path: Path) -> list[list[np.ndarray]]:
    """As :func:`yolo_outlines`. VOC counts pixels from 1."""
    return [
        [
            np.array([float(number.text) for number in polygon]).reshape(-1, 2) - 1
            for polygon in element.iterfind("polygon")
        ]
        for element in ElementTree.parse(path).iterfind("object")
    ]


def select(paths: Sequence[str], args: argparse.Namespace) -> list[Path]:
    """The images to convert, by name. Two of the same stem would share their labels."""
    paths = sorted(map(Path, paths))
    if not paths:
        raise InputError(f"{args.images} holds no images that supervision knows; folders in it are not looked into")
    stem, count = Counter(path.stem for path in paths).most_common(1)[0]
    if count > 1:
        twins = " and ".join(path.name for path in paths if path.stem == stem)
        raise InputError(f"{twins} in {args.images} would share the labels {stem}{args.ending}: rename or remove one")
    if not args.list:
        return paths
    try:
        wanted = {Path(line.split()[0]).stem for line in args.list.read_text().splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--list {args.list} can't be read ({error}): name a text file") from error
    missing = wanted - {path.stem for path in paths}
    if missing or not wanted:
        raise InputError(f"--list {args.list} names {min(missing, default='nothing')}, which is not in {args.images}")
    return [path for path in paths if path.stem in wanted]


def to_coco(dataset, paths: Sequence[Path], names: Sequence[str], outlines: Callable, args) -> dict:
    """The content of an annotation file; all ids begin at 1."""
    names = list(names) if args.format == "yolo" or args.categories else sorted(names)
    images, annotations = [], []
    for path in paths:
        height, width = read_size(path)  # upright, as it is for training
        images.append({"id": len(images) + 1, "file_name": path.name, "width": width, "height": height})
        objects, label_file = dataset.annotations[str(path)], args.labels / f"{path.stem}{args.ending}"
        polygons = outlines(label_file, (width, height)) if label_file.exists() else []
        for number, box, parts in zip(objects.class_id, objects.xyxy.astype(float), polygons, strict=True):
            name = dataset.classes[number]
            if name not in names:
                raise InputError(f"{label_file} has an object {name!r}, which --categories doesn't name: add it")
            ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": names.index(name) + 1}
            annotations.append(ids | geometry(box, parts, (width, height), label_file))
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def geometry(box: np.ndarray, polygons: list[np.ndarray], size: tuple[int, int], label_file: Path) -> dict:
    """What COCO's format says of where an object is. `box`: x0, y0, x1, y1; `size`: width, height; all in pixels."""
    if (box < -TOLERANCE * max(size)).any() or (box.reshape(2, 2) > np.multiply(size, 1 + TOLERANCE)).any():
        raise InputError(
            f"{label_file} has an object from x, y = {box[0]:.0f}, {box[1]:.0f} to {box[2]:.0f}, {box[3]:.0f} pixels, "
            f"outside its image of {size[0]}×{size[1]}: correct the label, or put the right image there"
        )
    x0, y0, x1, y1 = np.clip(box.reshape(2, 2), 0, size).flatten().round(2).tolist()
    place = {"bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
    if polygons:
        polygons = [np.clip(polygon, 0, size) for polygon in polygons]
        place["segmentation"] = [polygon.flatten().round(2).tolist() for polygon in polygons]
        place["area"] = sum(polygon_area(polygon) for polygon in polygons)
    return place


def polygon_area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def report(content: dict, args: argparse.Namespace) -> None:
    images, annotations = content["images"], content["annotations"]
    counts = Counter(annotation["category_id"] for annotation in annotations)
    empty = len(images) - len({annotation["image_id"] for annotation in annotations})
    boxes = sum("segmentation" not in annotation for annotation in annotations)
    print(f"{args.output}: {len(images)} images, {empty} of them without objects; {len(annotations)} objects:")
    for category in content["categories"]:
        print(f"  {category['id']} {category['name']}: {counts[category['id']]}")
    if boxes:
        print(f"Without an outline, by a box alone: {boxes} of the objects; train with MODEL.MASK_ON False.")
    stems = {Path(image["file_name"]).stem for image in images}
    orphans = sorted(path.name for path in args.labels.glob(f"*{args.ending}") if path.stem not in stems)
    if orphans and not args.list:
        print(f"Left out, for there is no image of that name: {len(orphans)} label files, such as {orphans[0]}.")
    print(f'DATASETS.COCO_FORMAT \'[["{args.output.stem}", "{args.output}", "{args.images}"]]\'')


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
