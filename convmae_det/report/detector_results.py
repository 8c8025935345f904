"""What a detector's evaluations have left in a run's folder, together with the annotations they were made with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..data.detection.catalog import check_data_sets_exist
from ..data.detection.categories import find_categories, read_stated_categories
from ..errors import InputError
from ..evaluation.coco import EXPLANATION, RESULTS, list_tasks, read_ground_truth
from ..evaluation.explanation import explain_results
from ..evaluation.result_folders import list_result_folders
from ..evaluation.results_file import read_results
from .reading import EVALUATE, describe_failure, read_object


@dataclass(frozen=True)
class DetectorResults:
    """An evaluation of a detector on a data set."""

    name: str  # of the data set, and of the weights if these are averaged ones
    explanation: Mapping  # see `explain_results`; without verdicts where `truth` is empty; empty if nothing is known
    truth: Mapping = field(default_factory=dict)  # the annotations, if they can be read
    results: list[dict] = field(default_factory=list)  # COCO's format
    image_root: str = ""  # where the images lie
    problem: str = ""  # what is missing, in a sentence

    @cached_property
    def images(self) -> dict[Any, Mapping]:
        """The annotated images by their ids."""
        return {image["id"]: image for image in self.truth["images"]}

    @cached_property
    def annotated(self) -> dict[Any, list[int]]:
        """The places of the annotations of each image, by its id, without crowds."""
        places: dict[Any, list[int]] = {}
        for place, annotation in enumerate(self.truth["annotations"]):
            if not annotation.get("iscrowd", 0):
                places.setdefault(annotation["image_id"], []).append(place)
        return places


def read_detector_results(cfg: CfgNode, folder: Path) -> Iterator[DetectorResults]:
    """Reads and explains the results of each evaluation in a run's folder.

    Args:
        cfg: of the run
        folder: its OUTPUT_DIR
    """
    for name, weights, place in list_result_folders(cfg, folder):
        path = place / RESULTS
        if not path.is_file():
            continue
        label = f"{name} ({weights})" if weights else name
        try:
            yield _explain(cfg, name, label, path)
        except Exception as error:  # whatever is in the files, the rest of the report is worth having
            problem = f"There are no pictures: {describe_failure(error, place)}"
            yield DetectorResults(label, _read_explanation(place), problem=problem)


def _explain(cfg: CfgNode, name: str, label: str, path: Path) -> DetectorResults:
    check_data_sets_exist([name], cfg)
    stated = read_stated_categories(cfg)
    if stated and find_categories(name) not in ([], stated):
        raise InputError(f"the categories of {name} are no longer those that the model was trained on")
    truth = read_ground_truth(name, cfg.DATASETS.CROWD_AS_OBJECTS)
    if "annotations" not in truth:
        raise InputError(f"{name} has no annotations")
    results = read_results(path, truth)
    explanation = explain_results(truth, results, list_tasks(cfg), cfg.TEST.DETECTIONS_PER_IMAGE)
    return DetectorResults(label, explanation, truth, results, MetadataCatalog.get(name).get("image_root") or "")


def _read_explanation(folder: Path) -> Mapping:
    """Reads what the evaluation itself wrote beside its results; empty if it isn't there, or can't be used."""
    try:
        explanation = read_object(folder / EXPLANATION, ("tasks", "images", "objects"), EVALUATE)
    except InputError:
        return {}
    return explanation if explanation["tasks"] and isinstance(explanation["tasks"], dict) else {}
