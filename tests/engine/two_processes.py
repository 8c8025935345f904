"""What each process of test_data_parallel.py does: python two_processes.py SHAPES_FOLDER KEY VALUE ..."""

import math
import sys

import torch
from detectron2.engine import HookBase

from convmae_det.cli.train import parse
from convmae_det.data.shapes import register_shapes
from convmae_det.engine.detection import DetectionTrainer
from convmae_det.engine.launch import run
from convmae_det.errors import TrainingError


def gradients_after(cfg, iterations):
    """The model's gradients of its last iteration, by name."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER = iterations
    trainer = DetectionTrainer(cfg)
    trainer.train()
    return {name: p.grad for name, p in trainer.checkpointer.model.named_parameters()}


def with_accumulation(cfg):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS = 4, 2
    return cfg


class SpoilSecondProcess(HookBase):
    def before_step(self):
        if torch.distributed.get_rank() == 1:
            with torch.no_grad():
                self.trainer.checkpointer.model.proposal_generator.rpn_head.objectness_logits.bias.fill_(math.nan)


def main(cfg, args):
    result = {"plain": gradients_after(cfg, 2), "accumulated": gradients_after(with_accumulation(cfg), 1)}
    trainer = DetectionTrainer(cfg)
    trainer.register_hooks([SpoilSecondProcess()])
    try:
        trainer.train()
    except TrainingError as error:
        result["error"] = str(error)
    torch.save(result, f"{cfg.OUTPUT_DIR}/rank{torch.distributed.get_rank()}.pt")


if __name__ == "__main__":
    register_shapes(sys.argv[1])
    sys.exit(run(main, parse(sys.argv[2:])))
