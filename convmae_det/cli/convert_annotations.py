"""Writes annotations of other tools as an annotation file in COCO's format, which training reads.

Examples:
    convmae-det convert-annotations yolo_data/data.yaml --output my_data.json
    convmae-det convert-annotations VOC2012/Annotations --list VOC2012/ImageSets/Main/train.txt --output voc_train.json
    convmae-det convert-annotations export.json --images photos --split 0.8 --output my_data.json

The format is recognised: YOLO (data.yaml, or a folder of labels with --images and --names), Darknet (obj.data),
Pascal VOC, LabelMe, CVAT ("for images" and "for video"), Label Studio (JSON), the VGG Image Annotator (JSON, CSV),
Open Images (CSV), Datumaro, and folders of masks. --format says it where several are possible. The images stay where
they are: DATASETS.COCO_FORMAT names the new file and the folder of images; its entries are printed at last. A file is
written for each split of the format, or, with --split, for train and val; none is overwritten.
Of version 1.0, `yolo IMAGES LABELS DATA.yaml`, `voc IMAGES ANNOTATIONS` and `labelme IMAGES ANNOTATIONS` work, too.
"""

import argparse
import os
import re
from collections import Counter
from pathlib import Path

from ..data.detection.foreign_formats.conversion import READERS, Conversion, convert
from ..data.detection.foreign_formats.recognition import recognize
from ..data.detection.foreign_formats.source import CROWD, OBJECT, SKIP, Source
from ..data.detection.foreign_formats.splitting import TRAIN, VAL
from ..data.image import Decoding
from ..errors import InputError
from ..files import write_json
from .arguments import check_output_file, command_parser, format_entry

EARLIER = {"yolo": 4, "voc": 3, "labelme": 3}  # how many words version 1.0 took, with that of the format
SPECIAL = {
    "difficult": ("voc",),
    "attribute": ("via",),
    "names": ("yolo", "darknet", "openimages"),
}  # options of few formats


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    check_outputs(args.output, [TRAIN, VAL] if args.split else [""])
    decoding = Decoding(ignore_exif=args.ignore_exif)
    category = args.categories[0] if args.categories and len(args.categories) == 1 else "object"
    source = Source(
        args.annotations,
        args.images,
        args.names,
        decoding,
        args.skip_missing,
        args.difficult or CROWD,
        args.attribute or "",
        category,
    )
    name = args.format or recognize(args.annotations, args.images is not None)
    check_special_options(args, name)
    choice = {"categories": args.categories, "chosen": args.list, "share": args.split, "seed": args.seed}
    conversion = convert(source, name, **choice)
    paths = check_outputs(args.output, list(conversion.contents))
    for path, content in zip(paths, conversion.contents.values(), strict=True):
        write_json(path, content)
    report(conversion, paths)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("convert-annotations", __doc__)
    parser.add_argument(
        "paths", metavar="ANNOTATIONS", nargs="+", type=Path, help="the label file, or the folder of label files"
    )
    parser.add_argument(
        "--output", metavar="FILE.json", type=Path, required=True, help="to write; with splits, FILE_train.json …"
    )
    parser.add_argument("--format", choices=READERS, help="by itself recognised")
    parser.add_argument(
        "--images", metavar="FOLDER", type=Path, help="of the images; by itself where the format has them"
    )
    parser.add_argument(
        "--names", metavar="FILE", type=Path, help="that names the classes: YOLO's YAML or list, Open Images' CSV"
    )
    parser.add_argument(
        "--categories", metavar="NAME", nargs="+", help="in the order of their ids; by itself by alphabet"
    )
    parser.add_argument(
        "--split", metavar="SHARE", type=float, help="of the images for training, such as 0.8, chosen by class"
    )
    parser.add_argument("--seed", type=int, default=0, help="of that choice")
    parser.add_argument("--list", metavar="FILE", type=Path, help="convert only the images named there, one a line")
    parser.add_argument("--skip-missing", action="store_true", help="leave out labelled images that are not there")
    parser.add_argument(
        "--ignore-exif", action="store_true", help="photos were annotated as they are stored (INPUT.IGNORE_EXIF)"
    )
    kinds = "Pascal VOC's difficult objects are crowds, objects, or left out (by itself crowd)"
    parser.add_argument("--difficult", choices=[CROWD, OBJECT, SKIP], help=kinds)
    parser.add_argument("--attribute", metavar="NAME", help="of VIA's regions, that is the class")
    args = parser.parse_args(arguments)
    _take_earlier_form(args)
    if args.split is not None and not 0 < args.split < 1:
        raise InputError(f"--split is {args.split:g}; it must be a share between 0 and 1, such as 0.8")
    if args.seed < 0:
        raise InputError(f"--seed is {args.seed}; it must be at least 0")
    return args


def _take_earlier_form(args: argparse.Namespace) -> None:
    """Takes the words of version 1.0, FORMAT IMAGES LABELS [NAMES], or the one that there is now.

    Raises:
        InputError: they are neither.
    """
    first, *rest = args.paths
    if len(args.paths) == EARLIER.get(str(first)):
        args.format, args.images, args.annotations = str(first), *rest[:2]
        args.names = rest[2] if rest[2:] else args.names
    elif rest:
        raise InputError(
            f"{len(args.paths)} paths are named, {first}, {rest[0]}, …: name the annotations alone, images by --images"
        )
    else:
        args.annotations = first


def check_special_options(args: argparse.Namespace, name: str) -> None:
    """Checks that the format has a use for the options that only some have.

    Raises:
        InputError: it hasn't.
    """
    for option, names in SPECIAL.items():
        if getattr(args, option) is not None and name not in names:
            raise InputError(f"--{option} is for {', '.join(names)}, but the format is {name}: leave it out")


def check_outputs(output: Path, splits: list[str]) -> list[Path]:
    """Checks that the file of each split can be written, and replaces nothing; returns them.

    Raises:
        InputError: one can't, or is there.
    """
    several = len(splits) > 1
    splits = [re.sub(r"[^\w.-]+", "_", split) for split in splits]
    paths = [
        output.with_name(f"{output.stem}_{split}{output.suffix}") if several and split else output for split in splits
    ]
    if len(set(paths)) < len(paths):
        raise InputError(f"the splits {', '.join(splits)} would share a file: choose others by --split")
    for path in paths:
        check_output_file("--output", str(path), "annotations.json")
        if os.path.lexists(path):
            raise InputError(f"--output {path} is there already: name another file, or remove it")
    return paths


def report(conversion: Conversion, paths: list[Path]) -> None:
    """Prints what the files hold, and what was left out."""
    for path, content in zip(paths, conversion.contents.values(), strict=True):
        images, annotations = content["images"], content["annotations"]
        counts = Counter(annotation["category_id"] for annotation in annotations)
        empty = len(images) - len({annotation["image_id"] for annotation in annotations})
        print(f"{path}: {len(images)} images, {empty} of them without objects; {len(annotations)} objects:")
        for category in content["categories"]:
            print(f"  {category['id']} {category['name']}: {counts[category['id']]}")
    outlines = [
        entry.get("segmentation") for content in conversion.contents.values() for entry in content["annotations"]
    ]
    if boxes := sum(not outline for outline in outlines):
        print(f"Without an outline, by a box alone: {boxes} of the objects; train with MODEL.MASK_ON False.")
    if masks := sum(isinstance(outline, dict) for outline in outlines):
        print(f"By a mask, not an outline: {masks} of the objects; train with INPUT.MASK_FORMAT bitmask.")
    for line in conversion.account.describe():
        print(line)
    folder = os.path.relpath(conversion.root) if Path.cwd() in conversion.root.parents else conversion.root
    for path in paths:
        print(format_entry("DATASETS.COCO_FORMAT", path.stem, str(path), str(folder)))
