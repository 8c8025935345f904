"""What each process of test_outcome.py does: python two_diverging_processes.py FOLDER RANK."""

import json
import os
import sys

import torch
import torch.distributed as dist
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from convmae_det.engine.parallel import parallelise
from convmae_det.engine.step import TrainingStep
from convmae_det.errors import TrainingError

BAD = 4  # iteration


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.passes = 0

    def forward(self, batch):
        self.passes += 1
        if dist.get_rank() == 1 and self.passes > BAD:
            raise FloatingPointError("Predicted boxes or scores contain Inf or NaN.")
        return {"loss": (self.weight - 1).square().sum()}


def main(folder: str, rank: int) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    comm.create_local_process_group(2)
    model, counts = Line(), []
    parallel = parallelise(model, "cpu", static_graph=False)
    step = TrainingStep(
        parallel, [[{"file_name": f"{rank}.jpg"}]] * 6, torch.optim.AdamW(model.parameters(), lr=0.5, fused=True)
    )
    gather_objects = comm.all_gather

    def count(*arguments, **options):
        counts[-1] += 1
        return gather_objects(*arguments, **options)

    comm.all_gather = count
    result = {"ends": [], "error": None}
    with EventStorage():
        try:
            for step.iter in range(6):
                counts.append(0)
                step.end_requested = rank == 1 and step.iter >= 2
                step.run_step()
                result["ends"].append(step.ends)
                result["last good weight"] = model.weight.item()
        except TrainingError as error:
            result["error"] = str(error)
    result |= {"weight": model.weight.item(), "object collectives": counts[:BAD]}
    with open(f"{folder}/rank{rank}.json", "w") as file:
        json.dump(result, file)
    dist.barrier()  # neither leaves while the other still talks to it
    os._exit(0)  # gloo's threads may abort an ordinary end


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
