"""Reading images in the order of training, from files of their own and from tar shards, nothing of them in memory.

The images are copied to a folder, and written as shards beside it, so that both lie on the same disk, as fresh; with
--short-side the shards hold them reduced, as `convmae-det shards` writes them, and the files stay as they are. Each is
read by itself (`reading`: the contents, as the loader asks for them) and by pretraining's loader (`loader`: decoded and
cropped, with as many workers as threads). Before each turn the system forgets what it has read: all of it where that is
allowed (root on Linux, /proc/sys/vm/drop_caches), else the contents alone, so that folders and inodes stay in memory,
which favours files.
"""

import argparse
import functools
import itertools
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from tqdm import tqdm

from benchmarks import data
from convmae_det.config.checks.data import MAX_PIXELS
from convmae_det.costs.measuring import describe_machine, measure_seconds
from convmae_det.data.pretraining.folders import list_images
from convmae_det.data.pretraining.loader import build_pretraining_loader
from convmae_det.data.shards.images import Source, list_shard_images
from convmae_det.data.shards.members import Member, announce_contents
from convmae_det.data.shards.writing import Packing, write_shards
from convmae_det.data.stream import compute_epoch_order

FILES, SHARDS = "files", "shards"
DROP = Path("/proc/sys/vm/drop_caches")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", metavar="FOLDER", help="of real ones; without it, photograph-like noise")
    parser.add_argument("--count", type=int, default=2048, help="images, some of them several times if there are fewer")
    parser.add_argument(
        "--short-side", type=int, default=0, help="pixels to reduce images in shards to; 0: as they are"
    )
    parser.add_argument("--batch", type=int, default=64, help="images that the loader reads at a time")
    parser.add_argument("--size", type=int, default=224, help="pixels along the side of a crop")
    parser.add_argument("--folder", metavar="FOLDER", help="on the disk to be measured; by itself that of $TMPDIR")


def measure(args: argparse.Namespace) -> dict:
    """Images a second of each form, and the ratios of the turns."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        copy_images(args, Path(folder, "images"))
        write_shards(f"{folder}/images", f"{folder}/shards", Packing(50 * 10**6, 0, args.short_side, MAX_PIXELS))
        sets = {FILES: list_images(os.path.realpath(f"{folder}/images"))}
        sets[SHARDS] = list_shard_images(Source("shards", (f"{folder}/shards/*.tar",), ""))
        size = sum(path.stat().st_size for path in Path(folder, "images").rglob("*") if path.is_file())
        turns = {
            ("reading", form): functools.partial(read_contents, images, args.batch) for form, images in sets.items()
        }
        turns |= {
            ("loader", form): functools.partial(load, images, configuration(args)) for form, images in sets.items()
        }
        seconds: dict[tuple[str, str], list[float]] = {turn: [] for turn in turns}
        for _ in tqdm(range(args.repeats), desc="turns", disable=None):
            for turn, read in turns.items():
                cold = forget(Path(folder))
                seconds[turn].append(measure_seconds(read, "cpu"))
    return {
        **describe_machine("cpu"),
        "images": {"source": args.images or "noise", "count": args.count, "mean_kilobytes": size / args.count / 1e3},
        "short_side": args.short_side,
        "threads": args.threads,
        "forgotten": cold,
        "ways": {way: compare(args.count, seconds[way, FILES], seconds[way, SHARDS]) for way in ("reading", "loader")},
    }


def compare(count: int, files: Sequence[float], shards: Sequence[float]) -> dict:
    ratios = [one / other for one, other in zip(files, shards, strict=True)]
    rates = {FILES: count / statistics.median(files), SHARDS: count / statistics.median(shards)}
    return {"images_per_second": rates, "speedup": statistics.median(ratios), "speedups": ratios}


def report(result: dict) -> None:
    images = result["images"]
    print(
        f"{images['count']} images ({images['source']}), {images['mean_kilobytes']:.1f} kB on average; "
        f"{result['device']}, {result['threads']} threads, torch {result['torch']}; forgotten before each turn: "
        f"{result['forgotten']}"
    )
    if result["short_side"]:
        print(f"shards: images with a shorter side of {result['short_side']} pixels; files: as they are")
    for way, figures in result["ways"].items():
        for form, rate in figures["images_per_second"].items():
            print(f"{way:8} {form:7} {rate:9.1f} images/s")
        turns = ", ".join(f"{ratio:.2f}" for ratio in figures["speedups"])
        print(f"{way:8} shards are {figures['speedup']:.2f} times as fast (turn by turn {turns})")


def copy_images(args: argparse.Namespace, folder: Path) -> None:
    """Copies images into folders of a thousand."""
    with tempfile.TemporaryDirectory() as noise:
        if not args.images:
            data.write_images(Path(noise), min(args.count, 128))
        files = list_images(os.path.realpath(args.images or noise))
        for number, file in enumerate(itertools.islice(itertools.cycle(files), args.count)):
            target = folder / f"{number // 1000:03}" / f"{number:06}{os.path.splitext(file['file_name'])[1]}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file["file_name"], target)


def forget(folder: Path) -> str:
    """Has the system forget what it has read of files; returns what that is."""
    os.sync()
    try:
        DROP.write_text("3")
        return "contents, folders and inodes"
    except OSError:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return "contents"


def read_contents(images: Sequence[dict], batch: int) -> None:
    for items in batches(images, batch):
        announce_contents(items)
        for item in items:
            name = item["file_name"]
            if isinstance(name, Member):
                name.read()
            else:
                Path(name).read_bytes()


def batches(images: Sequence[dict], batch: int) -> Iterator[list[dict]]:
    order = compute_epoch_order(0, 0, len(images)).tolist()
    for start in range(0, len(order), batch):
        yield [images[index] for index in order[start : start + batch]]


def configuration(args: argparse.Namespace) -> CfgNode:
    cfg = data.configuration()
    cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", args.batch, "DATALOADER.NUM_WORKERS", args.threads])
    cfg.merge_from_list(["MODEL.CONVMAE.PRETRAIN_IMAGE_SIZE", args.size])
    return cfg


def load(images: Sequence[dict], cfg: CfgNode) -> None:
    for _ in itertools.islice(build_pretraining_loader(cfg, dataset=images), len(images) // cfg.SOLVER.IMS_PER_BATCH):
        pass
