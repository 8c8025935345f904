#!/usr/bin/env python3
"""Pretrains a ConvMAE encoder by masked autoencoding.

    python pretrain_net.py --config-file configs/pretrain_convmae_b.yaml [--resume] [KEY VALUE ...]
    torchrun --nproc-per-node 2 pretrain_net.py --config-file ...

The arguments are Detectron2's. `convmae-det pretrain` is the same: what it does with them is in
convmae_det/cli/pretrain.py.
"""

import sys

from convmae_det.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
