r"""Shows what a pretrained model makes of images of which it sees a part.

Examples:
    convmae-det reconstruct --config-file output/pretrain/config.yaml --weights output/pretrain/model_final.pth photos/
    convmae-det reconstruct --config-file output/pretrain/config.yaml --weights output/pretrain/model_final.pth \
        a.jpg b.jpg --seed 1 --output half.png MODEL.MAE.MASK_RATIO 0.5

The picture has a row for each image: the original, the part that the model sees, what it predicts of the rest, and the
two together. An image's middle is taken, and resized to MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE. Normalised pixels
(MODEL.MAE.NORM_PIX_LOSS) get the mean and contrast of each true patch, which the model doesn't predict.
"""

import argparse
import os

from ..config.keys import split_pairs
from ..data.configuration import read_tool_config
from ..inference.reconstruction import find_images, reconstruct_files
from ..visualization.reconstructions import TITLES
from ..visualization.sheet import draw_sheet, save_png
from .arguments import check_number, command_parser


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    cfg = read_tool_config(args.config_file, args.pairs)
    found = find_images(args.images)
    paths = found[: args.max_images]
    if len(paths) < len(found):
        print(f"The first {len(paths)} of {len(found):,} images are shown; --max-images shows more.")
    rows, captions = [], []
    for path, (panels, loss) in zip(paths, reconstruct_files(cfg, args.weights, paths, args.seed), strict=True):
        print(f"{path}: loss {loss:.4f}")
        rows.append(panels)
        captions.append(f"{os.path.basename(path)}, loss {loss:.4f}")
    save_png(draw_sheet(rows, TITLES, captions), args.output)
    print(f"{args.output} written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser("reconstruct", __doc__)
    add = parser.add_argument_group("model").add_argument
    add("--config-file", metavar="FILE", required=True, help="with which the model was pretrained")
    add("--weights", metavar="FILE", required=True, help="a checkpoint of pretraining")
    add = parser.add_argument_group("images").add_argument
    add("words", metavar="[KEY VALUE] IMAGE", nargs="+", help="an image file, or a folder of them; settings")
    add("--max-images", metavar="N", type=int, default=8, help="more are left out")
    add("--seed", type=int, default=0, help="of the masks")
    add = parser.add_argument_group("result").add_argument
    add("--output", metavar="FILE.png", default="reconstructions.png", help="the picture to write")
    args = parser.parse_intermixed_args(arguments)
    check_number("--max-images", args.max_images)
    args.pairs, args.images = split_pairs(args.words)
    return args
