"""Runs a detector on files: all objects in COCO's results format, and pictures of them, in a folder."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Instances
from PIL import Image
from tqdm import tqdm

from ..data.survey import LOOKED_AT, describe_pages, look_at_files, spread_indices
from ..errors import InputError
from ..evaluation.thresholds import THRESHOLDS
from ..files import atomic_write, write_json
from ..visualization import video
from ..visualization.predictions import draw_overview
from ..visualization.sheet import draw_sheet, save_png
from .ground_truth import GroundTruth
from .inputs import Input, assign_image_ids
from .predictor import Predictor
from .tracking import Tracker

OVERVIEW = 12  # images


class Results:
    """The objects that are found, and the folder that they are written to.

    Attributes:
        objects: entries of COCO's results format with their "file_name" and, in a video, "frame"
        images: number of images and frames
        failures: number of inputs that could not be read
    """

    def __init__(
        self,
        folder: str | Path,
        predictor: Predictor,
        truth: GroundTruth | None = None,
        classes: Sequence[str] = (),
        pictures: bool = True,
    ):
        """Makes the folder.

        Args:
            truth: shown beside the predictions, and gives image ids; all inputs are among its images
            classes: names or ids of the classes to keep; none: all
            pictures: whether images are drawn

        Raises:
            InputError: the folder can't be made, or a class is not the detector's.
        """
        self.folder, self.predictor, self.truth, self.pictures = Path(folder), predictor, truth, pictures
        self.classes = _find_classes(classes, predictor)
        self.objects: list[dict] = []
        self.images = self.failures = 0
        self._panels, self._names = [], []  # of the overview
        titles = ("ground truth",) if truth else ()
        self._titles = (*titles, f"predictions ({predictor.describe_threshold()})")
        make_folder(self.folder)

    def image_ids(self, inputs: Sequence[Input]) -> Iterator[int | str]:
        return self.truth.image_ids(inputs) if self.truth else assign_image_ids(inputs)

    def add(
        self, image: dict, instances: Instances, traces: Mapping[int, np.ndarray] | None = None
    ) -> np.ndarray | None:
        """Records an image's objects, and draws them.

        Args:
            image: "input", "image_id" and, of a video, "pixels", (H, W, 3) uint8 RGB, and "frame"
            instances: found in it
            traces: of a `Tracker`

        Returns:
            (h, w, 3) uint8 RGB; None if no pictures are wanted
        """
        entry: Input = image["input"]
        instances = instances[torch.isin(instances.pred_classes, self.classes)]
        where = {"file_name": entry.file_name} | ({"frame": image["frame"]} if "frame" in image else {})
        self.objects += [found | where for found in self.predictor.to_coco(instances, image["image_id"])]
        self.images += 1
        if not self.pictures:
            return None
        pixels = image["pixels"] if "pixels" in image else self.predictor.load_visible(str(entry.source))
        drawn = np.asarray(self.predictor.draw(pixels, instances, traces=traces))
        panels = [self.truth.draw(pixels, entry, self.predictor), drawn] if self.truth else [drawn]
        if len(self._panels) < OVERVIEW:
            self._panels.append(panels)
            self._names.append(f"{entry.file_name}, frame {image['frame']}" if "frame" in image else entry.file_name)
        return np.asarray(draw_sheet([panels], self._titles)) if self.truth else drawn

    def skip(self, error: InputError, what: str = "skipped") -> None:
        """Counts an input that is left out, or of which a part is, and prints why."""
        tqdm.write(f"{what}: {error}", file=sys.stderr)
        self.failures += 1

    def make_path(self, entry: Input, suffix: str) -> Path:
        """Returns the path for the picture or video of an input, and makes its folder."""
        path = self.folder / f"{entry.output_name}{suffix}"
        make_folder(path.parent)
        return path

    def write(self) -> str:
        """Writes results.json, the thresholds of classes if there are any, and, if pictures were drawn, overview.png.

        Returns:
            What to print for the user.
        """
        path = self.folder / "results.json"
        write_json(path, self.objects)
        predictor = self.predictor
        if predictor.score_thresholds and predictor.thresholds_file:
            used = dict(zip(predictor.class_names, predictor.score_thresholds, strict=True))
            write_json(self.folder / THRESHOLDS, {"source": predictor.thresholds_file, "classes": used})
        told = f"{len(self.objects):,} objects in {self.images:,} images: {path}"
        if self._panels:
            overview = self.folder / "overview.png"
            save_png(draw_overview(self._panels, self._names, self._titles), overview)
            told += f"\nDrawn in {self.folder}, the first {len(self._panels)} on {overview}"
        return told


def predict_inputs(
    inputs: Sequence[Input], results: Results, max_frames: int | None = None, track: bool = False
) -> None:
    """Finds and draws the objects in all inputs, images before videos, with progress. Unreadable inputs are skipped.

    Args:
        inputs: files and webcams
        results: where objects are recorded
        max_frames: of each video or webcam; None: all
        track: whether objects are followed through videos
    """
    ids = results.image_ids(inputs)
    if images := [entry for entry in inputs if not entry.is_video]:
        _predict_images(images, results, ids)
    for entry in inputs:
        if entry.is_video:
            _predict_video(entry, results, ids, max_frames, track)


def _predict_images(inputs: Sequence[Input], results: Results, ids: Iterator[int | str]) -> None:
    cfg = results.predictor.cfg
    names = tuple(str(inputs[index].source) for index in spread_indices(len(inputs), LOOKED_AT))
    if sentence := describe_pages(look_at_files(names, cfg.INPUT.FORMAT), len(inputs), cfg):
        print(sentence, file=sys.stderr)
    with tqdm(total=len(inputs), unit=" images", disable=None) as progress:
        for image, instances in _find(_read(inputs, results, ids, progress), results, progress):
            drawn = results.add(image, instances)
            if drawn is not None:
                with atomic_write(results.make_path(image["input"], ".jpg")) as file:
                    Image.fromarray(drawn).save(file, format="JPEG", quality=92, subsampling=0)
            progress.update()


def _find(images: Iterable[dict], results: Results, progress: tqdm) -> Iterator[tuple[dict, Instances]]:
    """Yields the objects of the images; those of which a tile can't be read are skipped."""
    if not results.predictor.whole_side:
        yield from results.predictor.stream(images)
        return
    for image in images:
        try:
            yield from results.predictor.stream([image])
        except InputError as error:
            results.skip(error)
            progress.update()


def _read(inputs: Iterable[Input], results: Results, ids: Iterator[int | str], progress: tqdm) -> Iterator[dict]:
    for entry in inputs:
        named = {"input": entry, "image_id": next(ids)}
        try:
            image = results.predictor.prepare(str(entry.source))
        except InputError as error:
            results.skip(error)
            progress.update()
        else:
            yield image | named


def _predict_video(
    entry: Input, results: Results, ids: Iterator[int | str], max_frames: int | None, track: bool
) -> None:
    try:
        source = video.Video(entry.source)
    except InputError as error:
        results.skip(error)
        return
    total = min(filter(None, (source.length, max_frames)), default=None)
    frames = (
        results.predictor.prepare(pixels) | {"input": entry, "image_id": next(ids), "frame": number, "pixels": pixels}
        for number, pixels in enumerate(itertools.islice(source, max_frames))
    )
    count = results.images
    tracker = Tracker(source.frame_rate) if track else None
    with (
        video.write_video(results.make_path(entry, ".mp4"), source.frame_rate) as write,
        tqdm(total=total, unit=" images", desc=entry.file_name, disable=None) as progress,
    ):
        for image, instances in results.predictor.stream(frames):
            if tracker:
                instances = tracker.update(instances)
            drawn = results.add(image, instances, tracker.traces if tracker else None)
            if drawn is not None:
                write(drawn)
            progress.update()
    if results.images == count:
        results.skip(InputError(f"{entry.source} holds no frame that can be read: convert it to .mp4"))
    elif source.missing:
        read = results.images - count
        problem = f"{entry.source} ends after {read:,} of {source.length:,} frames, whose objects are in the results"
        results.skip(InputError(f"{problem}: it is damaged or was cut short; replace it"), "cut short")


def _find_classes(words: Sequence[str], predictor: Predictor) -> torch.Tensor:
    """Converts names or ids of classes to indices as in `pred_classes`; none: all.

    Raises:
        InputError: an unknown class.
    """
    names, ids = predictor.class_names, predictor.category_ids
    numbers = {str(id): index for index, id in enumerate(ids)} | {name: index for index, name in enumerate(names)}
    unknown = [word for word in words if word not in numbers]
    if unknown:
        known = ", ".join(f"{name} ({id})" for name, id in zip(names, ids, strict=True))
        raise InputError(
            f"--classes: {unknown[0]} is none of the detector's classes (if it is an input, put it before --classes), "
            f"which are {known}"
        )
    for word in words:
        if word in names and word in map(str, ids) and ids[names.index(word)] != int(word):
            message = (
                f"--classes {word}: the class of this name, whose id is {ids[names.index(word)]}, not that of this id"
            )
            print(message, file=sys.stderr)
    return torch.tensor([numbers[word] for word in words] or range(len(names)))


def make_folder(path: Path) -> None:
    """Makes the folder of results, or one in it.

    Raises:
        InputError: it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} can't be made ({error.strerror}): choose another --output") from error
