#!/usr/bin/env python3
"""Converts ConvMAE weights, published or ours, for Detectron2's MODEL.WEIGHTS, or back to the published layout.

    convert_weights.py INPUT OUTPUT                                  # for the default Mask R-CNN on this encoder
    convert_weights.py INPUT OUTPUT --config-file configs/mask_rcnn_convmae_b_sfp.yaml [KEY VALUE ...]
    convert_weights.py INPUT OUTPUT --to official                    # the published layout
    convert_weights.py INPUT OUTPUT --to encoder                     # without FPN, heads and decoder
    convert_weights.py INPUT OUTPUT --key teacher                    # one of several encoders in a file
    convert_weights.py INPUT --inspect

With --config-file, position tables are resized to what that model has; its KEY VALUE pairs follow the file's. Without,
a detector's weights keep their sizes, and others are made to fit the default detector. OUTPUT ends in .pth, .pt or
.safetensors (which plain Detectron2 doesn't read; train_net.py and pretrain_net.py do). docs/checkpoints.md says more.
"""

import argparse
import dataclasses
import re
import sys

import convmae_det  # noqa: F401  (first, for it silences what PyTorch says of Detectron2)

# isort: split
import torch
from detectron2.modeling import build_model
from tabulate import tabulate

from ..checkpoint.conversion import to_official
from ..checkpoint.fitting import CONFIGURED, COUNTER, POSITION, RELATIVE, Weights, encoder_prefixes, fit
from ..checkpoint.inspection import describe
from ..checkpoint.loading import read_weights
from ..checkpoint.report import Report
from ..checkpoint.writing import write
from ..data.configuration import read_config
from ..errors import InputError


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    if args.inspect:
        print(tabulate(describe(args.input, args.key).items(), tablefmt="plain"))
        return
    if not args.output:
        raise InputError("OUTPUT is missing: name the file to write, or ask for --inspect")
    state, report = convert(read_weights(args.input, args.key), args)
    print(report)
    write({"model": state, "__author__": "convmae_det", "matching_heuristics": False}, args.output)
    print(f"{args.output}: {len(state)} tensors written")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="INPUT", help="a .pth, .pt or .safetensors file")
    parser.add_argument("output", metavar="OUTPUT", nargs="?", help="the file to write")
    parser.add_argument("--config-file", metavar="FILE", default="", help="of the model that is to take the weights")
    parser.add_argument("--to", choices=["official", "encoder"], help="another layout than the model's")
    parser.add_argument("--key", metavar="WORDS", default="", help="which encoder of INPUT, if it holds several")
    parser.add_argument("--inspect", action="store_true", help="only say what INPUT holds")
    parser.add_argument("opts", metavar="KEY VALUE", nargs="*", help="keys of the configuration to set")
    return parser.parse_intermixed_args(arguments)


def convert(weights: Weights, args: argparse.Namespace) -> tuple[dict[str, torch.Tensor], Report]:
    if args.to == "encoder":
        encoder = {name: tensor for name, tensor in weights.tensors.items() if name.startswith(weights.prefix)}
        weights = dataclasses.replace(weights, tensors=encoder, entries={})
    if not args.config_file and (args.to == "official" or weights.prefix.startswith("backbone.")):
        state, report = fit(weights, as_in_the_file(weights, args.opts))
    else:
        model = empty_model(weights, args)
        state, report = fit(weights, model.state_dict(), {name for name, _ in model.named_buffers()})
    if args.to == "official":
        (prefix,) = encoder_prefixes(state)
        state = to_official(state, prefix.removesuffix("encoder."))
    return state, report


def as_in_the_file(weights: Weights, opts: list[str]) -> dict[str, torch.Tensor]:
    """The shapes and types of a model in which everything has the file's size; the encoder's are complete."""
    prefix = weights.prefix or "encoder."
    args = argparse.Namespace(config_file="", opts=["MODEL.CONVMAE.RELATIVE_POSITION", "none", *opts])
    backbone = empty_model(weights, args).backbone.bottom_up
    target = {prefix + name: tensor for name, tensor in backbone.encoder.state_dict().items()}
    for name, tensor in weights.at([prefix]).items():
        outside = not name.startswith(prefix) and not re.search(CONFIGURED, name)
        if outside or re.search(rf"{POSITION}|{RELATIVE}|^{re.escape(prefix)}norm\.", name):
            target[name] = tensor if re.search(COUNTER, name) else tensor.float()
    return target


def empty_model(weights: Weights, args: argparse.Namespace) -> torch.nn.Module:
    """The model of the configuration, or the default detector on the file's encoder; shapes without memory."""
    opts = args.opts if args.config_file else encoder_settings(weights, args.opts) + args.opts
    cfg = read_config(args.config_file, opts)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def encoder_settings(weights: Weights, opts: list[str]) -> list[str]:
    """KEY VALUE pairs that describe the file's encoder."""
    shape = weights.shape
    pairs = {f"MODEL.CONVMAE.{key}": value for key, value in shape.settings().items()}
    pairs["MODEL.PIXEL_MEAN"], pairs["MODEL.PIXEL_STD"] = [0.0] * shape.in_channels, [1.0] * shape.in_channels
    if not shape.preset and not shape.num_heads and "MODEL.CONVMAE.NUM_HEADS" not in opts:
        # Bias tables, of which each head has its own, start at zero anyway; no weight depends on the number of heads.
        pairs |= {"MODEL.CONVMAE.NUM_HEADS": 1, "MODEL.CONVMAE.RELATIVE_POSITION": "none"}
    return [str(word) for pair in pairs.items() for word in pair]


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
