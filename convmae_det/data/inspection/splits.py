"""The data sets that are looked at, in one form whatever they come as.

n images, m objects.
"""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ...config.architectures import is_autoencoder, is_classifier, is_segmentor
from ...config.checks.data import BANDS
from ...errors import InputError, make_printable
from ..classification.data_sets import find_sources
from ..classification.labelled_images import list_labelled_images
from ..detection.annotation_file import read_content
from ..detection.catalog import check_data_sets_exist
from ..pretraining.folders import register_image_folders
from ..shards.images import register_shards
from ..shards.store import hide_secrets
from .findings import Example
from .outlines import Polygons, gather_polygons
from .sifting import sift_content

TRAIN, TEST = "train", "test"


@dataclass
class Objects:
    """The usable objects of a data set.

    Attributes:
        entries: as in an annotation file in COCO's format, m of them
        images: (m,) int, the index of each object's image
        labels: (m,) int, the index of its class
        boxes: (m, 4) float, x y width height in pixels
        crowd: (m,) bool
    """

    entries: Sequence[dict]
    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray

    @functools.cached_property
    def corners(self) -> np.ndarray:
        """The boxes as the least x and y and the largest, (m, 4) float."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], axis=1)

    @functools.cached_property
    def polygons(self) -> Polygons:
        return gather_polygons(self.entries)


@dataclass
class Split:
    """A data set for training or for testing.

    Attributes:
        name: of the data set
        role: TRAIN or TEST
        source: the file, folder or shards that it comes from
        root: the folder of images; empty if there is none for all
        paths: of the images
        sizes: (n, 2) int, height and width as the annotations say; 0 where they say nothing
        classes: their names
        objects: None without annotations
        labels: (n,) int, the class of each image; None unless whole images have classes
        refused: entries of the file that training refuses
        problem: why none of it can be read, a sentence; empty if it can
    """

    name: str
    role: str
    source: str = ""
    root: str = ""
    paths: list[str] = field(default_factory=list)
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), int))
    classes: list[str] = field(default_factory=list)
    objects: Objects | None = None
    labels: np.ndarray | None = None
    refused: list[Example] = field(default_factory=list)
    problem: str = ""

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """Number of objects, crowds left out, or of images of each class: (number of classes,) int."""
        labels = self.objects.labels[~self.objects.crowd] if self.objects else self.labels
        return np.bincount(labels if labels is not None else [], minlength=len(self.classes))


def load_splits(cfg: CfgNode) -> list[Split]:
    """Loads the data sets of DATASETS.TRAIN and, except for pretraining, TEST.

    Raises:
        InputError: none can be read; what is wrong with the first.
    """
    if is_segmentor(cfg):
        raise InputError("data with masks are checked by convmae-det train itself, before anything is trained")
    if is_autoencoder(cfg):
        register_image_folders(cfg.DATASETS.IMAGE_FOLDERS or ())
        register_shards(cfg.DATASETS.SHARDS or (), cfg.DATASETS.SHARD_CACHE)
    names = [(name, TRAIN) for name in cfg.DATASETS.TRAIN]
    names += [] if is_autoencoder(cfg) else [(name, TEST) for name in cfg.DATASETS.TEST]
    load = _load_labelled if is_classifier(cfg) else _load_images if is_autoencoder(cfg) else _load_detection
    splits = [_load(name, role, cfg, load) for name, role in names]
    if not splits:
        raise InputError("DATASETS.TRAIN and DATASETS.TEST are empty: name the data to check.")
    if all(split.problem for split in splits):
        raise InputError(splits[0].problem)
    return splits


def _load(name: str, role: str, cfg: CfgNode, load: Callable[[str, str, CfgNode], Split]) -> Split:
    try:
        return load(name, role, cfg)
    except InputError as error:
        return Split(name, role, problem=str(error))


def _load_labelled(name: str, role: str, cfg: CfgNode) -> Split:
    """Loads a folder of classes, or a CSV file."""
    (source,) = find_sources(cfg, [name])
    images = list_labelled_images(source, arrays=cfg.INPUT.FORMAT == BANDS)
    paths = [image["file_name"] for image in images]
    return Split(name, role, source, "", paths, _no_sizes(paths), images.classes, labels=images.labels.numpy())


def _load_images(name: str, role: str, cfg: CfgNode) -> Split:
    """Loads images without looking at annotations."""
    check_data_sets_exist([name], cfg)
    metadata = MetadataCatalog.get(name)
    paths = [image["file_name"] for image in DatasetCatalog.get(name)]
    shards = ", ".join(map(hide_secrets, metadata.shards.patterns)) if metadata.get("shards") else ""
    source = shards or metadata.get("image_folder") or metadata.get("image_root") or ""
    return Split(name, role, source, "", paths, _no_sizes(paths))


def _load_detection(name: str, role: str, cfg: CfgNode) -> Split:
    check_data_sets_exist([name], cfg)
    metadata = MetadataCatalog.get(name)
    source, root = metadata.get("json_file"), metadata.get("image_root") or ""
    if source and metadata.get("evaluator_type") == "coco":
        content = read_content(source, root)
    else:
        source, root, content = "", os.sep, _convert_to_coco(name)
    is_train = role == TRAIN
    masks = bool(cfg.MODEL.MASK_ON) and _has_masks(content)
    usable, refused = sift_content(content, is_train=is_train, masks=masks)
    images = usable["images"]
    paths = [os.path.join(root, image["file_name"]) for image in images]
    by_id = {image["id"]: path for image, path in zip(images, paths, strict=True)}
    examples = [_make_example(entry, problem, by_id) for entry, problem in refused]
    categories = sorted(usable["categories"], key=lambda category: category["id"])
    split = Split(
        name,
        role,
        source,
        root,
        paths,
        classes=[make_printable(entry["name"]) for entry in categories],
        refused=examples,
    )
    split.sizes = np.array([[image["height"], image["width"]] for image in images], int).reshape(-1, 2)
    if "annotations" in usable:
        split.objects = _gather_objects(usable["annotations"], images, categories, cfg.DATASETS.CROWD_AS_OBJECTS)
    return split


def _has_masks(content: Any) -> bool:
    """Whether any object has a mask: those of data with boxes alone are not each without one."""
    annotations = content.get("annotations") if isinstance(content, dict) else None
    return isinstance(annotations, list) and any(
        isinstance(annotation, dict) and annotation.get("segmentation") for annotation in annotations
    )


def _gather_objects(
    annotations: list[dict], images: list[dict], categories: list[dict], crowd_as_objects: bool
) -> Objects:
    image_index = {image["id"]: index for index, image in enumerate(images)}
    label_index = {category["id"]: index for index, category in enumerate(categories)}
    count = len(annotations)
    crowd = np.fromiter((bool(entry.get("iscrowd")) for entry in annotations), bool, count)
    return Objects(
        annotations,
        np.fromiter((image_index[entry["image_id"]] for entry in annotations), int, count),
        np.fromiter((label_index[entry["category_id"]] for entry in annotations), int, count),
        np.array([entry["bbox"] for entry in annotations], float).reshape(-1, 4),
        crowd & (not crowd_as_objects),
    )


def describe_objects(
    split: Split,
    objects: Objects,
    chosen: np.ndarray,
    details: Sequence[str] | None = None,
    other_boxes: np.ndarray | None = None,
) -> list[Example]:
    """Describes objects for a finding.

    Args:
        split: their data set
        objects: all of them
        chosen: (m,) bool, those to describe
        details: what there is to say of each of all objects, beside its class
        other_boxes: (m, 4) float, x y width height of a second box for each of all objects
    """
    examples = []
    for index in np.flatnonzero(chosen).tolist():
        detail = ", ".join(filter(None, [split.classes[objects.labels[index]], details[index] if details else ""]))
        boxes = [tuple(boxes[index].tolist()) for boxes in (objects.boxes, other_boxes) if boxes is not None]
        path, number = split.paths[objects.images[index]], objects.entries[index]["id"]
        examples.append(Example((path,), detail, number, tuple(boxes)))
    return examples


def _make_example(entry: dict, problem: str, paths: dict) -> Example:
    image_id = entry.get("image_id", entry.get("id"))
    path = paths.get(image_id) if isinstance(image_id, (int, str)) else None
    number = entry.get("id") if "image_id" in entry else None
    return Example((path,) if path else (), make_printable(problem), number)


def _convert_to_coco(name: str) -> dict:
    """Converts what somebody's own function registered with Detectron2 to the content of an annotation file."""
    dicts, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
    images, annotations = [], []
    for index, image in enumerate(dicts):
        size = {key: image.get(key, 0) for key in ("height", "width")}
        images.append({"id": index, "file_name": os.path.relpath(image["file_name"], os.sep)} | size)
        for annotation in image.get("annotations", ()):
            box = BoxMode.convert(list(map(float, annotation["bbox"])), annotation["bbox_mode"], BoxMode.XYWH_ABS)
            number = len(annotations) + 1
            annotations.append(dict(annotation) | {"id": number, "image_id": index, "bbox": list(box)})
    labels = {annotation["category_id"] for annotation in annotations}
    names = metadata.get("thing_classes") or [f"class {label}" for label in range(max(labels, default=-1) + 1)]
    categories = [{"id": label, "name": name} for label, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _no_sizes(paths: list[str]) -> np.ndarray:
    return np.zeros((len(paths), 2), int)
