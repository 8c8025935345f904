"""The memory of a training step under the settings that save memory: parts of the encoder, what is computed again.

Each step runs in a process of its own, on random images (convmae_det/costs/network.py). Memory is by how much that
raises the peak of the resident set or, on a GPU, the most that torch holds. On Linux, glibc is told to give back what
is freed: by itself it keeps pieces of up to 32 MB, so that the peak says more about the order in which they are freed
than about what a step needs. `convmae-det analyze --train` measures with these included.
"""

import argparse
import os

from tqdm import tqdm

from convmae_det.costs.measuring import describe_machine
from convmae_det.costs.network import Workload, choose_precision_of_pass, measure_peak_memory

CHECKPOINTED = ("MODEL.CONVMAE.ACTIVATION_CHECKPOINT", "True")
FROZEN = ("MODEL.CONVMAE.FREEZE_STAGES", "2")
ADAPTED = ("SOLVER.LORA_RANK", "16")
PARTS = {"all": (), "frozen": FROZEN, "adapted": ADAPTED, "frozen and adapted": FROZEN + ADAPTED}  # that are trained
SETTINGS = PARTS | {f"{name}, checkpointed": keys + CHECKPOINTED for name, keys in PARTS.items()}
GIVE_BACK = 2**20  # bytes, of pieces that glibc gives back


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", default="configs/mask_rcnn_convmae_b.yaml", metavar="FILE")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024], help="pixels along the side of an image")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS, metavar="NAME")
    parser.add_argument("--device", default="", help="by itself MODEL.DEVICE")
    parser.add_argument("--pairs", nargs="*", default=[], metavar="KEY VALUE", help="settings of the configuration")


def measure(args: argparse.Namespace) -> dict:
    """Bytes of a step over one image, for each of the settings and sizes."""
    os.environ |= {"OMP_NUM_THREADS": str(args.threads)}
    os.environ |= {f"MALLOC_{name}_THRESHOLD_": str(GIVE_BACK) for name in ("MMAP", "TRIM")}
    steps = [(name, size) for size in args.sizes for name in args.settings]
    rows = []
    for name, size in tqdm(steps, desc="settings", disable=None):
        workload = Workload(args.config_file, [*SETTINGS[name], *args.pairs], args.device, train=True)
        memory = measure_peak_memory(workload, size)
        rows.append({"settings": name, "keys": SETTINGS[name], "size": size, "memory": memory})
    precision, device = choose_precision_of_pass(workload.cfg, True), workload.cfg.MODEL.DEVICE.split(":")[0]
    machine = describe_machine(device) | {"config_file": args.config_file, "pairs": args.pairs}
    return {**machine, "precision": str(precision), "rows": rows}


def report(result: dict) -> None:
    words = " ".join([result["config_file"], *result["pairs"]])
    print(f"{words}; one image; {result['precision']}; {result['device']}, torch {result['torch']}\n")
    for row in result["rows"]:
        print(f"{row['size']:5}  {row['settings']:32} {row['memory'] / 1e9:6.2f} GB  {' '.join(row['keys'])}")
