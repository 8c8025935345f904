"""Trains a detector on a ConvMAE backbone and evaluates it, as train_net.py does.

Examples:
    convmae-det train --config-file configs/mask_rcnn_convmae_b.yaml --num-gpus 8 MODEL.WEIGHTS convmae_base.pth
    convmae-det train --config-file configs/mask_rcnn_convmae_b.yaml --num-gpus 8 --resume
    convmae-det train --config-file output/b/config.yaml --eval-only MODEL.WEIGHTS output/b/model_final.pth
    torchrun --nproc-per-node 2 -m convmae_det train --config-file configs/mask_rcnn_convmae_b.yaml

The options are those of every Detectron2 project, and KEY VALUE pairs may stand before, between or after them. Keys:
convmae_det/config/defaults.py and Detectron2's own. Exit status: 0; 1 with a sentence on what is wrong; 130 after
Ctrl-C or SIGTERM, with a checkpoint from which --resume goes on.
"""

from argparse import Namespace

from detectron2.config import CfgNode

from ..engine.detection import DetectionTrainer
from ..engine.launch import run
from .arguments import parse_training


def main(arguments: list[str] | None = None) -> int:
    return run(train, parse(arguments))


def parse(arguments: list[str] | None) -> Namespace:
    return parse_training("train", __doc__, arguments)


def train(cfg: CfgNode, args: Namespace) -> object:
    """What each process does. Returns the metrics of the evaluation."""
    if args.eval_only:
        return DetectionTrainer.evaluate(cfg, resume=args.resume)
    trainer = DetectionTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()
