#!/usr/bin/env python3
"""Pretrains a ConvMAE encoder by masked autoencoding.

    python pretrain_net.py --config-file configs/pretrain_convmae_b.yaml [--resume] [KEY VALUE ...]
    torchrun --nproc-per-node 2 pretrain_net.py --config-file ...

The arguments are Detectron2's. Keys: convmae_det/config/defaults.py and Detectron2's own.
"""

import sys

from convmae_det.engine.launch import parse_arguments, run
from convmae_det.engine.pretraining import PretrainingTrainer
from convmae_det.errors import InputError


def main(cfg, args):
    if args.eval_only:
        raise InputError(
            "--eval-only is for train_net.py; convmae-det reconstruct shows what a pretrained model does"
        )
    trainer = PretrainingTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    sys.exit(run(main, parse_arguments(__doc__)))
