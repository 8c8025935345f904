#!/usr/bin/env python3
"""Trains a detector on a ConvMAE backbone and evaluates it.

    python train_net.py --config-file configs/mask_rcnn_convmae_b.yaml [--resume] [KEY VALUE ...]
    python train_net.py --config-file configs/mask_rcnn_convmae_b.yaml --eval-only MODEL.WEIGHTS output/model_final.pth
    torchrun --nproc-per-node 2 train_net.py --config-file ...

The arguments are Detectron2's. `convmae-det train` is the same: what it does with them is in convmae_det/cli/train.py.
"""

import sys

from convmae_det.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
