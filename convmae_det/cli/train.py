"""Trains a detector or a classifier on a ConvMAE encoder and evaluates it, as train_net.py does.

Examples:
    convmae-det train --config-file configs/mask_rcnn_convmae_b.yaml --num-gpus 8 MODEL.WEIGHTS convmae_base.pth
    convmae-det train --config-file configs/mask_rcnn_convmae_b.yaml --num-gpus 8 --resume
    convmae-det train --config-file output/b/config.yaml --eval-only MODEL.WEIGHTS output/b/model_final.pth
    convmae-det train --config-file configs/classify_convmae_b.yaml --num-gpus 8 MODEL.WEIGHTS convmae_base.pth
    convmae-det train --config-file configs/mask_rcnn_convmae_tiny.yaml --num-processes 2
    torchrun --nproc-per-node 2 -m convmae_det train --config-file configs/mask_rcnn_convmae_b.yaml

The options are those of every Detectron2 project and --num-processes; KEY VALUE pairs may stand before, between or
after them. Keys: convmae_det/config/defaults.py and Detectron2's own. Exit status: 0; 1 with a sentence on what is
wrong; 130 after Ctrl-C or SIGTERM, with a checkpoint from which --resume goes on.
"""

from argparse import Namespace

from detectron2.config import CfgNode

from ..engine.launch import run
from ..engine.reporting import report_run
from ..engine.tasks import choose_trainer
from .arguments import parse_training


def main(arguments: list[str] | None = None) -> int:
    return run(train, parse(arguments))


def parse(arguments: list[str] | None) -> Namespace:
    return parse_training("train", __doc__, arguments)


def train(cfg: CfgNode, args: Namespace) -> object:
    """What each process does. Returns the metrics of the evaluation."""
    task = choose_trainer(cfg)
    if args.eval_only:
        results = task.evaluate(cfg, resume=args.resume)
        report_run(cfg.OUTPUT_DIR, cfg)
        return results
    return task.start(cfg, resume=args.resume).train()
