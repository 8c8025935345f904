#!/usr/bin/env python3
"""Shows what a pretrained model makes of images of which it sees a part.

    reconstruct.py --config-file configs/pretrain_convmae_b.yaml --weights output/model_final.pth IMAGE ...
    reconstruct.py --config-file ... --weights ... MODEL.MAE.MASK_RATIO 0.9 FOLDER

writes a picture with a row for each image: the original, the part that the model sees, what it predicts of the rest,
and the two together. An image's middle is taken, and resized to MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE. Normalised pixels
(MODEL.MAE.NORM_PIX_LOSS) get the mean and contrast of each true patch, which the model doesn't predict.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from convmae_det.checkpoint import load_weights
from convmae_det.data.image import read_image
from convmae_det.data.image_folder import list_images
from convmae_det.engine.launch import load_config
from convmae_det.errors import InputError
from convmae_det.modeling.masked_autoencoder import MaskedAutoencoder
from convmae_det.visualization.reconstructions import TITLES, reconstruction_panels, seeded_noise
from convmae_det.visualization.sheet import draw_sheet, save_png

# the first part of every configuration key
GROUPS = "MODEL INPUT DATASETS DATALOADER SOLVER TEST".split()


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    cfg = load_config(args)
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
    # one process, as the launcher of the training scripts would have it
    parser.set_defaults(num_gpus=1, num_machines=1, machine_rank=0)
    args = parser.parse_intermixed_args(arguments)
    args.opts, args.images = split(args.words)
    return args


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """KEY VALUE pairs, and the other words. A file that is called like a key is a file."""
    pairs, others = [], []
    words = iter(words)
    for word in words:
        if word.split(".")[0] in GROUPS and not os.path.exists(word):
            pairs += [word, *[value for value, _ in zip(words, range(1), strict=False)]]
        else:
            others.append(word)
    return pairs, others
