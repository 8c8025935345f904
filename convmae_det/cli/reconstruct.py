#!/usr/bin/env python3
"""Shows what a pretrained model makes of images of which it sees a part.

    reconstruct.py --config-file configs/pretrain_convmae_b.yaml --weights output/model_final.pth IMAGE ...
    reconstruct.py --config-file ... --weights ... MODEL.MAE.MASK_RATIO 0.9 FOLDER

writes a picture with a row for each image: the original, the part that the model sees, what it predicts of the rest,
and the two together. An image's middle is taken, and resized to MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE. Normalised pixels
(MODEL.MAE.NORM_PIX_LOSS) get the mean and contrast of each true patch, which the model doesn't predict.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Sequence

import convmae_det  # noqa: F401  (first, for it silences what PyTorch says of Detectron2)

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from ..checkpoint import load_weights
from ..config.architectures import is_detector
from ..config.reading import split_pairs
from ..data.configuration import read_tool_config
from ..data.image import read_image
from ..data.pretraining.folders import list_images
from ..errors import InputError
from ..modeling.masked_autoencoder import MaskedAutoencoder
from ..visualization.reconstructions import TITLES, reconstruction_panels, seeded_noise
from ..visualization.sheet import draw_sheet, save_png


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    cfg = read_tool_config(args.config_file, args.pairs)
    paths = find_images(args.images, args.max_images)
    images = torch.stack([read_square(path, cfg) for path in paths])
    model = load_model(cfg, args.weights)
    noise = seeded_noise(model, images, args.seed)
    rows, captions = [], []
    for path, image, order in zip(paths, images, noise, strict=True):
        panels, (loss,) = reconstruction_panels(model, image[None], order[None], cfg.INPUT.FORMAT)
        print(f"{path}: loss {loss:.4f}")
        rows.append(panels[0])
        captions.append(f"{os.path.basename(path)}, loss {loss:.4f}")
    save_png(draw_sheet(rows, TITLES, captions), args.output)
    print(f"{args.output} written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", metavar="FILE", required=True, help="with which the model was pretrained")
    parser.add_argument("--weights", metavar="FILE", required=True, help="a checkpoint of pretraining")
    parser.add_argument("--output", metavar="FILE.png", default="reconstructions.png", help="the picture to write")
    parser.add_argument("--seed", type=int, default=0, help="of the masks")
    parser.add_argument("--max-images", metavar="N", type=int, default=8, help="more are left out")
    parser.add_argument("words", metavar="[KEY VALUE] IMAGE", nargs="+", help="an image file, or a folder of them")
    args = parser.parse_intermixed_args(arguments)
    args.pairs, args.images = split_pairs(args.words)
    return args


def find_images(places: Sequence[str], limit: int) -> list[str]:
    """The first `limit` image files of what the user named: files, and folders with what they hold at any depth."""
    if not places:
        raise InputError("no image is named: end the command line in image files or folders of them")
    if limit < 1:
        raise InputError(f"--max-images is {limit}; it must be at least 1")
    listed = [list_images(os.path.realpath(place)) if os.path.isdir(place) else [place] for place in places]
    total = sum(map(len, listed))
    if total > limit:
        print(f"The first {limit} of {total:,} images are shown; --max-images shows more.")
    paths = itertools.islice(itertools.chain.from_iterable(listed), limit)
    return [path if isinstance(path, str) else path["file_name"] for path in paths]


def read_square(path: str, cfg: CfgNode) -> torch.Tensor:
    """The middle of an image, as the model takes it: (channels, size, size) uint8."""
    pixels = torch.from_numpy(read_image(path, cfg.INPUT.FORMAT)).permute(2, 0, 1)
    if len(pixels) != len(cfg.MODEL.PIXEL_MEAN):
        raise InputError(
            f"MODEL.PIXEL_MEAN has {len(cfg.MODEL.PIXEL_MEAN)} entries, but INPUT.FORMAT {cfg.INPUT.FORMAT} has "
            f"{len(pixels)} channels: give it one for each"
        )
    middle = center_crop(pixels, [min(pixels.shape[1:])])
    return resize(middle, [cfg.MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE], InterpolationMode.BICUBIC, antialias=True)


def load_model(cfg: CfgNode, weights: str) -> MaskedAutoencoder:
    """The model with the weights of a file. Raises InputError if some part of it is not in there."""
    if is_detector(cfg):
        raise InputError(
            f"--config-file describes a {cfg.MODEL.META_ARCHITECTURE}: reconstruction needs the configuration of "
            "pretraining, such as configs/pretrain_convmae_b.yaml"
        )
    model = build_model(cfg)
    report = load_weights(model, weights)
    lacking = {name.split(".")[0] for name in report.new}
    if "decoder" in lacking:
        raise InputError(
            f"{weights} holds an encoder without a decoder: reconstruction needs both, so give a checkpoint that "
            "pretraining wrote, not one of the encoder alone, of a classifier or of a detector"
        )
    if "fusion" in lacking:
        raise InputError(f"{weights} holds no fusion of the scales: set MODEL.MAE.MULTI_SCALE_DECODER False")
    return model


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
