"""What each process of test_step.py does: python two_scaled_processes.py FOLDER RANK."""

import json
import os
import sys

import torch
import torch.distributed as dist
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from convmae_det.engine.step import TrainingStep
from convmae_det.errors import TrainingError


class Root(nn.Module):
    """A loss of 0 whose gradient is 1 in process 0 and NaN in process 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return {"root": self.weight.square().sqrt().sum() if dist.get_rank() else self.weight.sum()}


def main(folder: str, rank: int) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    model = Root()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    step = TrainingStep(DistributedDataParallel(model), [[{"file_name": f"{rank}.jpg"}]] * 4, optimizer)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    result = {"scales": [], "error": None}
    with EventStorage():
        try:
            for step.iter in range(4):
                step.run_step()
                result["scales"].append(step.scaler.get_scale())
        except TrainingError as error:
            result["error"] = str(error)
    result["weight"] = model.weight.item()
    with open(f"{folder}/rank{rank}.json", "w") as file:
        json.dump(result, file)
    dist.barrier()  # neither leaves while the other still talks to it
    os._exit(0)  # gloo's threads may abort an ordinary end


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
