"""Writes annotations in YOLO's, Pascal VOC's or LabelMe's format as an annotation file in COCO's.

Examples:
    convmae-det convert-annotations yolo images/train labels/train data.yaml --output train.json
    convmae-det convert-annotations voc JPEGImages Annotations --list ImageSets/Main/train.txt --output train.json
    convmae-det convert-annotations labelme images images --output train.json

The images stay where they are: DATASETS.COCO_FORMAT names the new file and the folder of images. Lines of a YOLO label
file may be boxes or polygons. A VOC object becomes its box and, where there are any, its polygons; LabelMe's
rectangles and polygons are objects, or parts of one if they have the same group.
`convmae-det convert-annotations yolo --help` shows the options.
"""

import argparse
from collections import Counter
from pathlib import Path

from ..data.detection.foreign_formats.labelme import convert_labelme
from ..data.detection.foreign_formats.voc import convert_voc
from ..data.detection.foreign_formats.yolo import convert_yolo
from ..data.image import Decoding
from ..files import write_json
from .arguments import HelpFormatter, command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    decoding = Decoding(ignore_exif=args.ignore_exif)
    if args.format == "yolo":
        content = convert_yolo(args.images, args.labels, args.names, args.list, decoding=decoding)
    else:
        convert = convert_voc if args.format == "voc" else convert_labelme
        content = convert(args.images, args.labels, args.categories, args.list, decoding=decoding)
    write_json(args.output, content)
    report(content, args)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("convert-annotations", __doc__)
    formats = parser.add_subparsers(dest="format", required=True)
    yolo = formats.add_parser("yolo", help="YOLO's format", formatter_class=HelpFormatter)
    voc = formats.add_parser("voc", help="Pascal VOC's format", formatter_class=HelpFormatter)
    labelme = formats.add_parser("labelme", help="LabelMe's format", formatter_class=HelpFormatter)
    commands = [(yolo, "LABELS", ".txt"), (voc, "ANNOTATIONS", ".xml"), (labelme, "ANNOTATIONS", ".json")]
    for command, labels, ending in commands:
        command.add_argument("images", metavar="IMAGES", type=Path, help="the folder of the images")
        command.add_argument("labels", metavar=labels, type=Path, help=f"the folder of the {ending} files")
        command.add_argument("--output", metavar="FILE.json", type=Path, required=True, help="the file to write")
        command.add_argument(
            "--list", metavar="FILE", type=Path, help="convert only the images named there, one a line"
        )
        command.add_argument(
            "--ignore-exif", action="store_true", help="photos were annotated as they are stored (INPUT.IGNORE_EXIF)"
        )
        command.set_defaults(ending=ending)
    yolo.add_argument("names", metavar="DATA.yaml", type=Path, help="holds the names of the classes")
    for command in (voc, labelme):
        text = "in the order of their ids; by itself by alphabet"
        command.add_argument("--categories", metavar="NAME", nargs="+", help=text)
    return parser.parse_args(arguments)


def report(content: dict, args: argparse.Namespace) -> None:
    """Prints what the file holds, and what was left out."""
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
