#!/usr/bin/env python3
"""Measures speed and memory against plain forms and against peers, in one run.

    python benchmarks/benchmark.py pretrain [--arch base] [--batch 16] [--size 224] [--dtype float32] [--json FILE]
    python benchmarks/benchmark.py detect [--sizes 512 1024] [--kinds "backbone inference"] [--peers "Swin-B"]
    python benchmarks/benchmark.py settings [--sizes 512 1024] [--settings all adapted]
    python benchmarks/benchmark.py count [--size 1024]
    python benchmarks/benchmark.py kernels [--arch base] [--batch 256] [--size 224]
    python benchmarks/benchmark.py attention [--size 1024]
    python benchmarks/benchmark.py forms [--sides 8 14 20 24 32 48 64 96] [--operations linear attention]
    python benchmarks/benchmark.py data [--images FOLDER]
    python benchmarks/benchmark.py shards [--images FOLDER]
    python benchmarks/benchmark.py evaluate
    python benchmarks/benchmark.py dense [--objects 100 300 1000 3000] [--plot FILE]
    python benchmarks/benchmark.py tiles --config-file FILE --weights FILE --annotations FILE --images FOLDER

`pretrain`: a training step (forward, loss, backward, AdamW) of the masked autoencoder. `detect`: forward passes and
training steps of the backbone and of the whole detector. Both against the published form that is kept with the tests:
dense channels-first maps, 1×1 convolutions, materialised attention with a bias looked up by each block, all patches
predicted. `settings`: the memory of a detector's training step where a part of it is trained, or activations are
computed again. `count`: operations and memory traffic of both forms, not timed. `kernels`: what a GPU launches, moves
and keeps in a pretraining step, counted without one. `attention`: the forms that global attention with a shared bias
can take. `forms`: those of each operation among which convmae_det/ops/choice.py chooses, on the CPU. `data`: reading
images for training. `shards`: the same from files and from tar files that lie on a disk. `evaluate`: COCO's metrics.
`dense`: what many objects in an image cost after the network. `tiles`: what a detector finds in a large image, and in
which memory.

With `--arch base`, the published networks of other methods take part, as peers: in `pretrain` the masked autoencoders
of ViT-B (MAE) and Hiera-B, in `detect`, for the backbone, ViTDet's ViT-B (Detectron2), Swin-B, Hiera-B and ConvNeXt-B
(timm); `--peers` chooses some or, without a name, none. benchmarks/peers.py says what shapes they have.

Whatever is compared takes turns, so that a change of the machine's speed meets both; times are medians. The machine's
own rate is that of a large torch.mm, measured in the same turns, and its memory's that of a large copy. They make the
roofline: what a form's operations and traffic would take at these rates, whichever is more (benchmarks/traffic.py says
what traffic is; a backward pass counts as two forward). Training steps that have a loader are also made on images that
it reads meanwhile, with as many readers as cores: the share of that time in which there is no batch yet. Operations
are those of products, convolutions and attention, a multiply-add as two, by formulas of our own
(convmae_det/costs/operations.py). On CUDA times are those of events, memory is what torch holds; on the CPU memory is
how far two steps in a process of their own raise the peak of the resident set.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from convmae_det.cli.main import silence_libraries

if __name__ == "__main__":
    silence_libraries()  # before they are imported

import torch

from benchmarks import attention, count, data, dense, evaluate, forms, kernels, peers, settings, shards, steps, tiles
from convmae_det.errors import InputError
from convmae_det.files import write_json
from convmae_det.precision import DTYPES, choose_precision, format_dtype, log_precision


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    if getattr(args, "form", None):  # the process that measures the memory of one form
        args.print_memory(args)
        return
    if hasattr(args, "dtype"):
        precision = choose_precision(args.dtype, args.device, "--dtype")
        log_precision(precision)
        args.dtype = format_dtype(precision.dtype)
    result = args.measure(args)
    args.report(result)
    if args.json:
        write_json(args.json, result, indent=2)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU")
    common.add_argument("--repeats", type=int, default=5, help="turns, after one that isn't timed")
    common.add_argument("--json", metavar="FILE", help="write the figures there, too")

    network = argparse.ArgumentParser(add_help=False)
    network.add_argument("--arch", default="base")
    network.add_argument("--dtype", default="float32", choices=DTYPES, help="of autocast")
    network.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    whole = argparse.ArgumentParser(add_help=False, parents=[network])
    whole.add_argument("--compile", action="store_true", help="torch.compile our form")
    whole.add_argument("--images", metavar="FOLDER", help="that training waits for; without it, photograph-like noise")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")

    pretrain = tasks.add_parser("pretrain", parents=[common, whole])
    pretrain.add_argument("--batch", type=int, default=16, help="images in a step")
    pretrain.add_argument("--size", type=int, default=224, help="pixels along the side of an image")
    pretrain.set_defaults(
        measure=lambda args: steps.measure([steps.PRETRAINING], [args.size], args), published_up_to=float("inf")
    )

    detect = tasks.add_parser("detect", parents=[common, whole])
    detect.add_argument("--batch", type=int, default=1, help="images in a pass")
    detect.add_argument("--sizes", type=int, nargs="+", default=[1024], help="pixels along the side of an image")
    detect.add_argument("--kinds", nargs="+", default=list(steps.DETECTION), choices=steps.DETECTION, metavar="KIND")
    detect.add_argument(
        "--published-up-to", type=int, default=1024, help="the size from which it needs too much memory"
    )
    detect.set_defaults(measure=lambda args: steps.measure(args.kinds, args.sizes, args))

    memory = tasks.add_parser("memory", parents=[common, whole])  # started by the others
    memory.add_argument("--batch", type=int)
    memory.add_argument("--size", type=int)
    memory.add_argument("--form", choices=(*steps.FORMS, *peers.PRETRAINING, *peers.BACKBONES), required=True)
    memory.add_argument("--kind", choices=(steps.PRETRAINING, *steps.DETECTION))
    memory.set_defaults(print_memory=steps.print_memory)

    for name, module, parents in (
        ("settings", settings, [common]),
        ("count", count, [common, network]),
        ("kernels", kernels, [common]),
        ("attention", attention, [common, network]),
        ("forms", forms, [common]),
        ("data", data, [common]),
        ("shards", shards, [common]),
        ("evaluate", evaluate, [common]),
        ("dense", dense, [common]),
        ("tiles", tiles, [common]),
    ):
        task = tasks.add_parser(name, parents=parents)
        module.add_arguments(task)
        task.set_defaults(measure=module.measure, report=module.report)
    for task, names in ((pretrain, peers.PRETRAINING), (detect, peers.BACKBONES)):
        chosen = f"some of {', '.join(names)}, or none; default: all"
        task.add_argument("--peers", nargs="*", choices=names, metavar="NAME", help=chosen)
        task.set_defaults(report=steps.report)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
