"""Runs a detector on files: all objects in COCO's results format, and pictures of them, in a folder."""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Instances
from tqdm import tqdm

from ..data.survey import LOOKED_AT, describe_pages, look_at_files, spread_indices
from ..errors import InputError
from ..evaluation.thresholds import THRESHOLDS
from ..files import write_json, write_json_list
from ..visualization import video
from ..visualization.sheet import draw_sheet
from .ground_truth import GroundTruth
from .inputs import Input, assign_image_ids
from .parts import Attempt
from .picture_results import PictureResults
from .predictor import Predictor
from .tracking import Tracker

RESULTS = "results.json"


class Results(PictureResults):
    """The objects that are found, and the folder that they are written to: entries of COCO's results format."""

    result_names = (RESULTS,)

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
        self.truth, self.classes = truth, _find_classes(classes, predictor)
        super().__init__(folder, predictor, pictures)
        self.titles = (*(("ground truth",) if truth else ()), f"predictions ({predictor.describe_threshold()})")

    def image_ids(self) -> Iterator[int | str]:
        """Yields the ids of images, in the order of the inputs, and then of the frames of videos."""
        return self.truth.image_ids(self.inputs) if self.truth else assign_image_ids(self.inputs)

    def add(
        self,
        image: dict,
        instances: Instances,
        save: Callable[[np.ndarray], None],
        traces: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        """Draws an image's objects, and records them.

        Args:
            image: its "number" among the inputs and, of a video, "pixels", (H, W, 3) uint8 RGB, and "frame"
            instances: found in it
            save: is called with the picture, (h, w, 3) uint8 RGB, if any are wanted
            traces: of a `Tracker`
        """
        number, entry = image["number"], self.inputs[image["number"]]
        instances = instances[torch.isin(instances.pred_classes, self.classes)]
        if self.pictures:
            pixels = image["pixels"] if "pixels" in image else self.predictor.load_visible(str(entry.source))
            drawn = np.asarray(self.predictor.draw_on(pixels, instances, traces=traces))
            panels = [self.truth.draw(pixels, entry, self.predictor), drawn] if self.truth else [drawn]
            self.keep_panels(panels, number, image.get("frame"))
            save(np.asarray(draw_sheet([panels], self.titles)) if self.truth else drawn)
        self.parts.add(number, self.predictor.to_coco(instances, 0))

    def is_own(self) -> bool:
        """Whether results.json says of its first object in which file it was found, as COCO's results don't."""
        try:
            with (self.folder / RESULTS).open("rb") as file:
                beginning = file.read(2**20)
        except OSError:
            return False
        return beginning == b"[]" or b'"file_name"' in beginning

    def merge(self, attempts: Mapping[int, Attempt]) -> str:
        """Writes results.json and, if there are any, the thresholds of classes. Returns what to print for the user."""
        path, predictor = self.folder / RESULTS, self.predictor
        count = write_json_list(path, self._list_objects(attempts))
        if predictor.score_thresholds and predictor.thresholds_file:
            used = dict(zip(predictor.class_names, predictor.score_thresholds, strict=True))
            write_json(self.folder / THRESHOLDS, {"source": predictor.thresholds_file, "classes": used})
        return f"{count:,} objects in {sum(attempt.images for attempt in attempts.values()):,} images: {path}"

    def _list_objects(self, attempts: Mapping[int, Attempt]) -> Iterator[dict]:
        """Lists the objects of all inputs, with their image ids, "file_name" and, in a video, "frame"."""
        ids = self.image_ids()
        for number, entry in enumerate(self.inputs):
            images = self.parts.read(attempts[number]) if number in attempts else iter(())
            if not entry.is_video:
                id, where = next(ids), {"file_name": entry.file_name}
                yield from (found | {"image_id": id} | where for objects in images for found in objects)
                continue
            for frame, objects in enumerate(images):
                id, where = next(ids), {"file_name": entry.file_name, "frame": frame}
                yield from (found | {"image_id": id} | where for found in objects)


def predict_inputs(results: Results, max_frames: int | None = None, track: bool = False) -> None:
    """Finds and draws the objects in all inputs that are given to this process, images before videos, with progress.

    Unreadable inputs are skipped.

    Args:
        results: where objects are recorded
        max_frames: of each video or webcam; None: all
        track: whether objects are followed through videos
    """
    _warn_of_pages(results)
    with results.show_progress() as progress:
        for image, instances in _find(results, progress):
            entry = results.inputs[image["number"]]
            results.add(image, instances, lambda drawn, entry=entry: results.save_picture(entry, drawn))
            results.parts.end(image["number"])
            results.advance(progress)
    for number, entry in results.take(videos=True):
        _predict_video(number, entry, results, max_frames, track)


def _warn_of_pages(results: Results) -> None:
    images = [str(entry.source) for entry in results.inputs if not entry.is_video]
    if images and results.processes.is_first:
        cfg = results.predictor.cfg
        names = tuple(images[index] for index in spread_indices(len(images), LOOKED_AT))
        if sentence := describe_pages(look_at_files(names, cfg.INPUT.FORMAT), len(images), cfg):
            print(sentence, file=sys.stderr)


def _find(results: Results, progress: tqdm) -> Iterator[tuple[dict, Instances]]:
    """Yields the objects of the images; those of which a tile can't be read are skipped."""
    images = _read(results, progress)
    if not results.predictor.whole_side:
        yield from results.predictor.stream(images)
        return
    for image in images:
        try:
            yield from results.predictor.stream([image])
        except InputError as error:
            results.skip(image["number"], error)
            results.advance(progress)


def _read(results: Results, progress: tqdm) -> Iterator[dict]:
    for number, entry in results.take():
        try:
            image = results.predictor.prepare(str(entry.source))
        except InputError as error:
            results.skip(number, error)
            results.advance(progress)
        else:
            yield image | {"number": number}


def _predict_video(number: int, entry: Input, results: Results, max_frames: int | None, track: bool) -> None:
    try:
        source = video.Video(entry.source)
    except InputError as error:
        results.skip(number, error)
        return
    try:
        read = sum(1 for _ in _predict_frames(number, entry, source, results, max_frames, track))
    except KeyboardInterrupt:
        if not isinstance(entry.source, str):  # a webcam, which goes on until then
            results.parts.end(number)
        raise
    if not read:
        problem = f"{entry.source} holds no frame that can be read: convert it to .mp4"
        results.skip(number, InputError(problem))
    elif source.missing:
        problem = f"{entry.source} ends after {read:,} of {source.length:,} frames, whose objects are in the results"
        results.skip(number, InputError(f"{problem}: it is damaged or was cut short; replace it"), "cut short")
    else:
        results.parts.end(number)


def _predict_frames(
    number: int, entry: Input, source: video.Video, results: Results, max_frames: int | None, track: bool
) -> Iterator[int]:
    """Finds and draws the objects in a video, and yields the number of each frame when it is done."""
    frames = (
        results.predictor.prepare(pixels) | {"number": number, "frame": frame, "pixels": pixels}
        for frame, pixels in enumerate(itertools.islice(source, max_frames))
    )
    total = min(filter(None, (source.length, max_frames)), default=None)
    hidden = None if results.processes.is_first else True
    tracker = Tracker(source.frame_rate) if track else None
    with (
        video.write_video(results.make_path(entry, ".mp4"), source.frame_rate) as write,
        tqdm(total=total, unit=" images", desc=entry.file_name, disable=hidden) as progress,
    ):
        for image, instances in results.predictor.stream(frames):
            if tracker:
                instances = tracker.update(instances)
            results.add(image, instances, write, tracker.traces if tracker else None)
            progress.update()
            yield image["frame"]


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
