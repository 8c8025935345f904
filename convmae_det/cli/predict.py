#!/usr/bin/env python3
"""Finds objects in images and videos with a trained detector, and draws them.

    predict.py --config-file output/b/config.yaml --weights output/b/model_final.pth --output predictions IMAGE ...

An input is an image file, a folder (searched at any depth), a pattern in quotes ('photos/*.jpg'), a video file, or the
number of a webcam (0). The folder --output receives

    results.json   all objects in COCO's results format, as pycocotools' loadRes takes them, and their "file_name"
    NAME.jpg       each image with its objects drawn; NAME.mp4 for a video
    overview.png   the first dozen drawn images on one sheet

File names are relative to the folder that all inputs share. Exit status: 0; 1 if some input could not be read, the
results of the others being written; 130 after Ctrl-C, those of the images done being written.
"""

import argparse
import glob
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import convmae_det  # noqa: F401  (first, for it silences what PyTorch says of Detectron2)

# isort: split
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.data.datasets.coco import load_coco_json
from detectron2.structures import Instances
from PIL import Image
from tqdm import tqdm

from ..config.reading import split_pairs
from ..data.detection.annotation_file import check_annotation_file
from ..data.image import read_image
from ..data.pretraining.folders import list_images
from ..engine.launch import INTERRUPTED
from ..errors import InputError
from ..files import atomic_write
from ..inference.predictor import Predictor
from ..visualization import video
from ..visualization.predictions import DRAWN_FROM, draw_instances, draw_overview, ground_truth
from ..visualization.sheet import draw_sheet, save_png

OVERVIEW = 12  # images


class Input(NamedTuple):
    """An image or video file, or a webcam by its number."""

    source: str | int
    file_name: str  # relative to the folder that all inputs share
    output_name: str  # of its picture or video, without suffix

    @property
    def is_video(self) -> bool:
        return isinstance(self.source, int) or self.source.lower().endswith(video.SUFFIXES)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    inputs = find_inputs(args.inputs, args.output)
    truth = GroundTruth(args.annotations) if args.annotations else None
    if truth:
        inputs = truth.listed(inputs)
    predictor = Predictor(
        args.config_file, args.weights, args.device, args.score_threshold, args.batch_size, args.pairs, args.precision
    )
    print(f"Precision: {predictor.precision}", file=sys.stderr)
    output = Output(args, predictor, truth)
    run = Run(predictor, output, image_ids(inputs, truth), args.max_frames)
    status = 0
    try:
        run.images([entry for entry in inputs if not entry.is_video])
        for entry in inputs:
            if entry.is_video:
                run.video(entry)
    except KeyboardInterrupt:
        print("interrupted: what is done is being written", file=sys.stderr)
        status = INTERRUPTED
    output.finish()
    if run.failures:
        print(f"{run.failures} of {len(inputs)} inputs could not be read; they are named above", file=sys.stderr)
    return status or int(run.failures > 0)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config-file", metavar="FILE", required=True, help="the config.yaml that training wrote beside the weights")
    add("--weights", metavar="FILE", required=True, help="a checkpoint of training, such as model_final.pth")
    add("--output", metavar="DIR", required=True, help="the folder to write to")
    add("--score-threshold", metavar="T", type=float, help="0 to 1: leaves out objects of a lower score. Default: "
        f"pictures show those from {DRAWN_FROM} on, results.json holds all that the detector returns")  # fmt: skip
    add("--classes", metavar="NAME", nargs="+", default=[], help="names or ids: leaves out objects of other classes")
    add("--device", default="", help="auto, cpu, cuda or cuda:N; default: MODEL.DEVICE")
    add("--precision", help="trained, auto, float32, bfloat16 or float16 (GPU); default: TEST.PRECISION")
    add("--batch-size", metavar="N", type=int, default=1, help="images that go through the model at once")
    add("--annotations", metavar="FILE.json", help="in COCO's format: gives image ids by file name, and what is shown "
        "beside the predictions")  # fmt: skip
    add("--max-frames", metavar="N", type=int, help="of each video or webcam")
    add("--no-pictures", action="store_true", help="write results.json alone")
    add("words", metavar="[KEY VALUE] INPUT", nargs="+", help="images, folders, patterns, videos, webcams")
    args = parser.parse_intermixed_args(arguments)
    args.pairs, args.inputs = split_pairs(args.words)
    if args.max_frames is not None and args.max_frames < 1:
        raise InputError(f"--max-frames is {args.max_frames}; it must be at least 1")
    return args


def find_inputs(words: Sequence[str], output: str) -> list[Input]:
    """The files, each once, that the words on the command line stand for; never what an earlier run wrote to `output`.

    Raises InputError: a word that stands for nothing, or an input in whose place a picture would be written.
    """
    if not words:
        raise InputError("no input is named: end the command line in images, folders, patterns, videos or webcams")
    output = os.path.realpath(output)
    sources = list(dict.fromkeys(source for word in words for source in expand(word, output)))
    inputs = named(sources)
    for entry in inputs:
        target = os.path.join(output, entry.output_name) + (".mp4" if entry.is_video else ".jpg")
        if target in sources:
            raise InputError(f"--output {output} would put a picture in the place of {target}: choose another folder")
    return inputs


def expand(word: str, output: str) -> list[str | int]:
    """Paths of files, or the number of a webcam."""
    if os.path.isfile(word):
        return [absolute(word)]
    if os.path.isdir(word):
        found = [image["file_name"] for image in list_images(os.path.realpath(word))]
    elif word.isdecimal():
        return [int(word)]
    elif glob.has_magic(word) and (matches := sorted(glob.glob(word, recursive=True))):
        found = [path for match in matches if not is_inside(match, output) for path in expand_match(match, output)]
    else:
        problem = "matches no file" if glob.has_magic(word) else "doesn't exist"
        raise InputError(f"{word} {problem}: name an image, a folder, a pattern, a video or the number of a webcam")
    kept = [path for path in found if not is_inside(path, output)]
    if not kept:
        raise InputError(f"{word} holds nothing but what lies in --output {output}: choose another folder for that")
    return kept


def expand_match(match: str, output: str) -> list[str]:
    return expand(match, output) if os.path.isdir(match) else [absolute(match)]


def absolute(path: str) -> str:
    """Folders without links, as `list_images` gives them; a file that is a link keeps its own name."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def is_inside(path: str, folder: str) -> bool:
    return os.path.commonpath([os.path.realpath(path), folder]) == folder


def named(sources: Sequence[str | int]) -> list[Input]:
    """No two have the same output name: files keep their folders, and their suffix where only that differs."""
    files = [source for source in sources if isinstance(source, str)]
    root = os.path.commonpath([os.path.dirname(path) for path in files]) if files else ""
    names = [os.path.relpath(x, root) if isinstance(x, str) else f"webcam{x}" for x in sources]
    stems = [os.path.splitext(name)[0] for name in names]
    count = Counter(stems)
    outputs = [stem if count[stem] == 1 else name for name, stem in zip(names, stems, strict=True)]
    return list(map(Input, sources, names, outputs))


def image_ids(inputs: Sequence[Input], truth: "GroundTruth | None") -> Iterator[int]:
    """Of the inputs in turn: those of the annotations, else the numbers that all file names are, else 1, 2, …"""
    if truth:
        return iter([truth.find(entry)["image_id"] for entry in inputs])
    stems = [Path(entry.file_name).stem for entry in inputs]
    if all(stem.isdecimal() and not entry.is_video for stem, entry in zip(stems, inputs, strict=True)):
        numbers = list(map(int, stems))
        if len(set(numbers)) == len(numbers):
            return iter(numbers)
    return itertools.count(1)


class GroundTruth:
    """The images and objects of an annotation file. Raises InputError if it can't be used."""

    def __init__(self, path: str):
        check_annotation_file(path, is_train=False)
        self.path = path
        self.images = {os.path.normpath(image["file_name"]): image for image in load_coco_json(path, "")}

    def find(self, entry: Input) -> dict | None:
        """The image that the file is: the most folders of its path decide, as many as the annotations name."""
        parts = Path(str(entry.source)).parts
        names = (os.path.join(*parts[start:]) for start in range(len(parts)))
        return next((self.images[name] for name in names if name in self.images), None)

    def listed(self, inputs: Sequence[Input]) -> list[Input]:
        """Those inputs that the annotations list. Says how many others there are; InputError if there is none."""
        found = [entry for entry in inputs if not entry.is_video and self.find(entry)]
        if not found:
            raise InputError(f"none of the inputs is an image that {self.path} lists: leave out --annotations")
        if len(found) < len(inputs):
            left = len(inputs) - len(found)
            print(f"{left} of {len(inputs)} inputs are left out, since {self.path} doesn't list them.")
        return found

    def draw(self, pixels: np.ndarray, entry: Input, predictor: Predictor) -> np.ndarray:
        """The annotated objects on the image, crowds left out, in the colours that predictions of their class have."""
        objects = [a for a in self.find(entry)["annotations"] if not a.get("iscrowd", 0)]
        ids = list(dict.fromkeys([*predictor.category_ids, *(a["category_id"] for a in objects)]))
        names = predictor.class_names + [f"category {id}" for id in ids[len(predictor.category_ids) :]]
        objects = [a | {"category_id": ids.index(a["category_id"])} for a in objects]
        instances = ground_truth(objects, pixels.shape[:2])
        return draw_instances(pixels, instances, Metadata(name="truth", thing_classes=names))


class Output:
    """What goes into the folder --output."""

    def __init__(self, args: argparse.Namespace, predictor: Predictor, truth: GroundTruth | None):
        self.folder, self.predictor, self.truth = Path(args.output), predictor, truth
        self.pictures = not args.no_pictures
        self.threshold = DRAWN_FROM if args.score_threshold is None else args.score_threshold
        self.classes = find_classes(args.classes, predictor)
        self.results, self.panels, self.names, self.images = [], [], [], 0
        titles = ("ground truth",) if truth else ()
        self.titles = (*titles, f"predictions (score ≥ {self.threshold:.0%})")
        make_folder(self.folder)

    def add(self, image: dict, instances: Instances) -> np.ndarray | None:
        """Takes note of an image's objects; returns them drawn on it, (h, w, 3) uint8, unless no pictures are wanted.

        `image`: "input", "image_id" and, of a video, "pixels" and "frame".
        """
        entry: Input = image["input"]
        instances = instances[torch.isin(instances.pred_classes, self.classes)]
        where = {"file_name": entry.file_name} | ({"frame": image["frame"]} if "frame" in image else {})
        self.results += [found | where for found in self.predictor.to_coco(instances, image["image_id"])]
        self.images += 1
        if not self.pictures:
            return None
        pixels = image["pixels"] if "pixels" in image else read_image(entry.source)
        drawn = np.asarray(self.predictor.draw(pixels, instances, self.threshold))
        panels = [self.truth.draw(pixels, entry, self.predictor), drawn] if self.truth else [drawn]
        if len(self.panels) < OVERVIEW:
            self.panels.append(panels)
            self.names.append(f"{entry.file_name}, frame {image['frame']}" if "frame" in image else entry.file_name)
        return np.asarray(draw_sheet([panels], self.titles)) if self.truth else drawn

    def path(self, entry: Input, suffix: str) -> Path:
        path = self.folder / f"{entry.output_name}{suffix}"
        make_folder(path.parent)
        return path

    def finish(self) -> None:
        with atomic_write(self.folder / "results.json") as file:
            file.write(json.dumps(self.results).encode())
        lines = [f"{len(self.results):,} objects in {self.images:,} images: {self.folder / 'results.json'}"]
        if self.panels:
            save_png(draw_overview(self.panels, self.names, self.titles), self.folder / "overview.png")
            lines.append(f"Drawn in {self.folder}, the first {len(self.panels)} on {self.folder / 'overview.png'}")
        print(*lines, sep="\n")


class Run:
    """Takes inputs through the predictor to the output, with progress; `failures` counts those that can't be read."""

    def __init__(self, predictor: Predictor, output: Output, ids: Iterator[int], max_frames: int | None):
        self.predictor, self.output, self.ids, self.max_frames = predictor, output, ids, max_frames
        self.failures = 0

    def images(self, inputs: Sequence[Input]) -> None:
        if not inputs:
            return
        with tqdm(total=len(inputs), unit=" images", disable=None) as progress:
            for image, instances in self.predictor.stream(self._read(inputs, progress)):
                drawn = self.output.add(image, instances)
                if drawn is not None:
                    with atomic_write(self.output.path(image["input"], ".jpg")) as file:
                        Image.fromarray(drawn).save(file, format="JPEG", quality=92, subsampling=0)
                progress.update()

    def _read(self, inputs: Iterable[Input], progress: tqdm) -> Iterator[dict]:
        for entry in inputs:
            named = {"input": entry, "image_id": next(self.ids)}
            try:
                image = self.predictor.prepare(entry.source)
            except InputError as error:
                self._skip(error)
                progress.update()
            else:
                yield image | named

    def video(self, entry: Input) -> None:
        try:
            source = video.Video(entry.source)
        except InputError as error:
            self._skip(error)
            return
        total = min(filter(None, (source.length, self.max_frames)), default=None)
        frames = (
            self.predictor.prepare(pixels)
            | {"input": entry, "image_id": next(self.ids), "frame": number, "pixels": pixels}
            for number, pixels in enumerate(itertools.islice(source, self.max_frames))
        )
        count = self.output.images
        with (
            video.write_video(self.output.path(entry, ".mp4"), source.frame_rate) as write,
            tqdm(total=total, unit=" images", desc=entry.file_name, disable=None) as progress,
        ):
            for image, instances in self.predictor.stream(frames):
                drawn = self.output.add(image, instances)
                if drawn is not None:
                    write(drawn)
                progress.update()
        if self.output.images == count:
            self._skip(InputError(f"{entry.source} holds no frame that can be read: convert it to .mp4"))

    def _skip(self, error: InputError) -> None:
        tqdm.write(f"skipped: {error}", file=sys.stderr)
        self.failures += 1


def find_classes(words: Sequence[str], predictor: Predictor) -> torch.Tensor:
    """The classes, as `pred_classes` counts them, that names or ids stand for; all without any. InputError: unknown."""
    names, ids = predictor.class_names, predictor.category_ids
    numbers = {str(id): index for index, id in enumerate(ids)} | {name: index for index, name in enumerate(names)}
    unknown = [word for word in words if word not in numbers]
    if unknown:
        known = ", ".join(f"{name} ({id})" for name, id in zip(names, ids, strict=True))
        raise InputError(
            f"--classes: {unknown[0]} is none of the detector's classes (if it is an input, put it before --classes), "
            f"which are {known}"
        )
    return torch.tensor([numbers[word] for word in words] or range(len(names)))


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} can't be made ({error.strerror}): choose another --output") from error


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
