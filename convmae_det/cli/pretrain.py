r"""Pretrains a ConvMAE encoder by masked autoencoding, as pretrain_net.py does.

Examples:
    convmae-det pretrain --config-file configs/pretrain_convmae_b.yaml --num-gpus 8 \
        DATASETS.IMAGE_FOLDERS '[["images", "/path/to/images"]]' DATASETS.TRAIN '("images",)'
    convmae-det pretrain --config-file configs/pretrain_convmae_b.yaml --num-gpus 8 --resume
    torchrun --nproc-per-node 2 -m convmae_det pretrain --config-file configs/pretrain_convmae_b.yaml

The options are those of every Detectron2 project and --num-processes; KEY VALUE pairs may stand before, between or
after them. Keys: convmae_det/config/defaults.py and Detectron2's own. Exit status: 0; 1 with a sentence on what is
wrong; 130 after Ctrl-C or SIGTERM, with a checkpoint from which --resume goes on.
"""

from argparse import Namespace

from detectron2.config import CfgNode

from ..engine.launch import run
from ..engine.pretraining import PretrainingTrainer
from ..errors import InputError
from .arguments import parse_training


def main(arguments: list[str] | None = None) -> int:
    return run(pretrain, parse(arguments))


def parse(arguments: list[str] | None) -> Namespace:
    return parse_training("pretrain", __doc__, arguments)


def pretrain(cfg: CfgNode, args: Namespace) -> object:
    """What each process does."""
    if args.eval_only:
        raise InputError("--eval-only is for train_net.py; convmae-det reconstruct shows what a pretrained model does")
    return PretrainingTrainer.start(cfg, resume=args.resume).train()
