#!/usr/bin/env python3
"""Trains a detector on a ConvMAE backbone and evaluates it.

    python train_net.py --config-file configs/mask_rcnn_convmae_b.yaml [--resume] [KEY VALUE ...]
    python train_net.py --config-file configs/mask_rcnn_convmae_b.yaml --eval-only MODEL.WEIGHTS output/model_final.pth
    torchrun --nproc-per-node 2 train_net.py --config-file ...

The arguments are Detectron2's. Keys: convmae_det/config/defaults.py and Detectron2's own.
"""

import sys

from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.launch import parse_arguments, run


def main(cfg, args):
    if args.eval_only:
        return DetectionTrainer.evaluate(cfg, resume=args.resume)
    trainer = DetectionTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    sys.exit(run(main, parse_arguments(__doc__)))
